// A click is seen: after 150 ms a ring and a bar, after 2 s a sentence; and it counts once.

const [SEEN, LONG] = [150, 2000];
let timers = [];

function wait(element) {
  element.dataset.busy = "";
  timers.push(
    setTimeout(() => {
      element.ariaBusy = "true";
      document.documentElement.dataset.waiting = "";
    }, SEEN),
    setTimeout(() => {
      const status = document.createElement("p");
      status.className = "waiting";
      status.setAttribute("role", "status");
      document.body.append(status);
      status.textContent = "Still waiting for the app…";
    }, LONG),
  );
}

function isSecond(element) {
  return "busy" in element.dataset;
}

document.addEventListener("submit", (event) => {
  const button = event.submitter ?? event.target.querySelector("button");
  if (!button || event.defaultPrevented) return;
  if (isSecond(button)) event.preventDefault();
  else wait(button);
});

document.addEventListener("click", (event) => {
  const link = event.target.closest("a.button");
  const isElsewhere = event.button || event.ctrlKey || event.metaKey || event.shiftKey;
  if (!link || isElsewhere || link.target || link.hasAttribute("download")) return;
  if (isSecond(link)) event.preventDefault();
  else wait(link);
});

// Back, or a page that the browser has kept: nothing is waited for any more.
addEventListener("pageshow", () => {
  timers.forEach(clearTimeout);
  timers = [];
  delete document.documentElement.dataset.waiting;
  document.querySelectorAll(".waiting").forEach((each) => each.remove());
  for (const each of document.querySelectorAll("[data-busy]")) {
    delete each.dataset.busy;
    each.ariaBusy = null;
  }
});
