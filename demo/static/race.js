// Opens the five pages simultaneously, shows each result, and then the picture that the server draws
// of what it has recorded. Without scripts there are five links, and a link to the picture.

const list = document.querySelector("[data-race]");
const verdict = document.querySelector("[data-verdict]");

async function recordings() {
  if (!list.dataset.recordings) return [];
  const response = await fetch(list.dataset.recordings);
  return (await response.json()).recordings;
}

function linkTo(id, item) {
  const link = document.createElement("a");
  link.href = `${list.dataset.inspector}?show=${encodeURIComponent(id)}`;
  link.textContent = "recording";
  link.ariaLabel = `View the recording: tab ${[...list.children].indexOf(item) + 1}`;
  return link;
}

async function visit(item) {
  const started = performance.now();
  const outcome = item.querySelector("[data-outcome]");
  outcome.textContent = "waiting …";
  const response = await fetch(item.querySelector("a").href, { redirect: "manual" })
    .catch(() => Response.error());
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  outcome.textContent = `${response.ok ? "succeeded" : "failed"} after ${seconds} s `;
  // A recording is named after its request.
  const id = response.headers.get("X-Request-ID");
  if (id && list.dataset.inspector) outcome.append("· ", linkTo(id, item));
  return response.ok;
}

async function draw() {
  const response = await fetch(location.href);
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  const drawn = page.querySelector("[data-drawn]");
  if (drawn) document.querySelector("[data-drawn]").replaceWith(drawn);
}

function say(good, refreshes) {
  verdict.textContent = `${good} of ${list.children.length} requests returned your customers.`;
  if (list.dataset.recordings) {
    verdict.textContent += ` Refresh requests sent to OmniFund: ${refreshes}.`;
  }
}

async function run() {
  const known = new Set((await recordings()).map((recording) => recording.id));
  const succeeded = await Promise.all([...list.children].map(visit));
  const refreshes = (await recordings())
    .filter((recording) => !known.has(recording.id))
    .flatMap((recording) => recording.exchanges)
    .filter((exchange) => exchange.fields.grant_type === "refresh_token").length;

  say(succeeded.filter(Boolean).length, refreshes);
  if (list.dataset.recordings) await draw();
}

// A page that shows a race that is over does not run another one.
if ("run" in list.dataset) {
  say(0, 0); // As long as what it says in the end, so that nothing moves then.
  verdict.style.visibility = "hidden";
  try {
    await run();
  } catch {
    verdict.textContent = "The result can't be loaded. Run it again.";
  }
  verdict.style.visibility = "";
}
