// A button that copies the text before it. Without scripts, or without access to the clipboard,
// there is no button, and the text can be selected.

const SHOWN_MILLISECONDS = 2000;

function copyButton({ textContent: text, dataset }) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "secondary copy";
  button.textContent = "Copy";
  button.setAttribute("aria-label", `Copy ${dataset.copy}`);
  if (dataset.copyOf) {
    button.setAttribute("aria-describedby", dataset.copyOf);
  }
  const announced = document.createElement("span");
  announced.className = "offscreen";
  announced.setAttribute("aria-live", "polite");
  button.addEventListener("click", async () => {
    let outcome = "Copied";
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      outcome = "Copy failed";
    }
    button.textContent = announced.textContent = outcome;
    setTimeout(() => { button.textContent = "Copy"; }, SHOWN_MILLISECONDS);
  });
  return [button, announced];
}

if (navigator.clipboard) {
  for (const text of document.querySelectorAll("[data-copy]")) {
    text.after(" ", ...copyButton(text));
  }
}
