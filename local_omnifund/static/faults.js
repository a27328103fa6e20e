// Keeps the pressed row where it is while the page is loaded again. Without scripts, the URL's
// fragment brings the row back into view.

const KEY = "local-omnifund-row";

document.addEventListener("submit", (event) => {
  const row = event.target.closest("li[id]");
  if (row) {
    sessionStorage.setItem(KEY, JSON.stringify([row.id, row.getBoundingClientRect().top]));
  }
});

// "pageshow" comes after the browser has scrolled to the fragment.
addEventListener("pageshow", () => {
  const [id, top] = JSON.parse(sessionStorage.getItem(KEY) ?? "[]");
  sessionStorage.removeItem(KEY);
  const row = id && document.getElementById(id);
  if (row) {
    scrollBy({ top: row.getBoundingClientRect().top - top, behavior: "instant" });
  }
});
