// Opens the message that an arrow of the picture links to. Without scripts the page only scrolls.

function reveal() {
  const message = document.getElementById(location.hash.slice(1));
  const details = message?.querySelector(":scope > details");
  if (details) details.open = true;
}

addEventListener("hashchange", reveal);
reveal();
