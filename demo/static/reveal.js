// Opens the message that an arrow of the picture leads to. Without it the message is led to, closed.

function reveal() {
  const message = document.getElementById(location.hash.slice(1));
  const details = message?.querySelector("details");
  if (details) details.open = true;
}

addEventListener("hashchange", reveal);
reveal();
