// Opens the five pages at once and says how each fared. Without it the links do the same by hand.

const list = document.querySelector("[data-race]");
const verdict = document.querySelector("[data-verdict]");

async function recordings() {
  if (!list.dataset.recordings) return [];
  const answer = await fetch(list.dataset.recordings);
  return (await answer.json()).recordings;
}

function linkTo(id) {
  const link = document.createElement("a");
  link.href = `${list.dataset.inspector}?show=${encodeURIComponent(id)}`;
  link.textContent = "view the recording";
  return link;
}

async function visit(item) {
  const started = performance.now();
  const outcome = item.querySelector("[data-outcome]");
  outcome.textContent = "waiting …";
  const answer = await fetch(item.querySelector("a").href, { redirect: "manual" });
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  outcome.textContent = `${answer.ok ? "succeeded" : "failed"} after ${seconds} s `;
  // A recording is named after its request.
  const id = answer.headers.get("X-Request-ID");
  if (id && list.dataset.inspector) outcome.append("· ", linkTo(id));
  return answer.ok;
}

const known = new Set((await recordings()).map((recording) => recording.id));
const answered = await Promise.all([...list.children].map(visit));
const refreshes = (await recordings())
  .filter((recording) => !known.has(recording.id))
  .flatMap((recording) => recording.exchanges)
  .filter((exchange) => exchange.fields.grant_type === "refresh_token").length;

const good = answered.filter(Boolean).length;
verdict.textContent = `${good} of ${answered.length} requests returned your customers.`;
if (list.dataset.recordings) {
  verdict.textContent += ` Refresh requests sent to OmniFund: ${refreshes}.`;
}
