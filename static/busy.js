// A click is seen: after 150 ms a ring and a bar, after 2 s a sentence; and a form is sent once.

const [SEEN, LONG] = [150, 2000];
let timers = [];

// `guarded`: what must not be used a second time while this page waits.
function wait(element, guarded) {
  timers.forEach(clearTimeout);
  if (guarded) guarded.dataset.busy = "";
  // There before its text, so that screen readers notice the text.
  const status = document.querySelector(".waiting") ?? document.createElement("p");
  timers = [
    setTimeout(() => {
      element.dataset.busy = "";
      element.ariaBusy = "true";
      document.documentElement.dataset.waiting = "";
      status.className = "waiting";
      status.setAttribute("role", "status");
      document.body.append(status);
    }, SEEN),
    setTimeout(() => { status.textContent = "Still waiting for OmniFund…"; }, LONG),
  ];
}

function isSecond(event, guarded) {
  const isBusy = "busy" in guarded.dataset;
  if (isBusy) event.preventDefault();
  return isBusy;
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || isSecond(event, form)) return;
  wait(event.submitter ?? form.querySelector("button") ?? form, form);
});

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href]");
  const isElsewhere = event.button || event.ctrlKey || event.metaKey || event.shiftKey;
  if (!link || isElsewhere || event.defaultPrevented) return;
  if (link.target || link.hasAttribute("download")) return;
  const [there, here] = [link.href, location.href].map((url) => url.split("#")[0]);
  if (there === here && link.hash) return;
  // Another link may be chosen instead of a slow one; what looks like a button counts once.
  const guarded = link.matches(".button") ? link : null;
  if (!guarded || !isSecond(event, guarded)) wait(link, guarded);
});

function stop() {
  timers.forEach(clearTimeout);
  delete document.documentElement.dataset.waiting;
  document.querySelector(".waiting")?.remove();
  for (const each of document.querySelectorAll("[data-busy]")) {
    delete each.dataset.busy;
    each.ariaBusy = null;
  }
}

// Back, a page that the browser has kept, or the browser's Stop: the page waits no longer.
addEventListener("pageshow", stop);
globalThis.navigation?.addEventListener("navigateerror", stop);
