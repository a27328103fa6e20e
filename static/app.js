// What scripts add: times in the visitor's own zone, and a countdown. Every page works without.

const minutes = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const seconds = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

for (const time of document.querySelectorAll("time[datetime]")) {
  const moment = new Date(time.dateTime);
  if (Number.isNaN(moment.valueOf())) continue;
  time.textContent = (time.closest("[data-seconds]") ? seconds : minutes).format(moment);
}

function inWords(seconds) {
  const parts = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  const text = parts.map((part) => String(part).padStart(2, "0"));
  return parts[0] > 0 ? text.join(":") : text.slice(1).join(":");
}

// The access token's last minutes. At its end the page says so, as it would after a reload.
for (const card of document.querySelectorAll("[data-leeway]")) {
  const leeway = Number(card.dataset.leeway);
  const countdown = card.querySelector("[data-countdown]");
  const bar = card.querySelector("[data-left]");
  // Counted from the arrival of the page, because the visitor's clock may be wrong.
  const end = Math.floor(Date.now() / 1000) + bar.value;
  const title = document.title;
  const show = () => {
    const left = Math.max(0, end - Math.floor(Date.now() / 1000));
    const state = left === 0 ? "expired" : left <= leeway ? "expiring" : "fresh";
    countdown.textContent = inWords(left);
    bar.value = left;
    bar.className = state;
    for (const each of document.querySelectorAll("[data-when]")) {
      each.hidden = !each.dataset.when.split(" ").includes(state);
    }
    document.title = state === "expired" ? `Expired: ${title}` : title;
    if (left === 0) clearInterval(timer);
  };
  const timer = setInterval(show, 1000);
  show();
}
