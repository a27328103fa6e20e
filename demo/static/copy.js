// A button beside every command that copies it to the clipboard. Where that is not allowed there is
// no button: the text can still be selected.

const SHOWN_MILLISECONDS = 2000;

function copyButton(text) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  // Read out when it changes, for screen readers.
  button.setAttribute("aria-live", "polite");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Copy failed";
    }
    setTimeout(() => { button.textContent = "Copy"; }, SHOWN_MILLISECONDS);
  });
  return button;
}

if (navigator.clipboard) {
  for (const command of document.querySelectorAll("[data-copy]")) {
    command.before(copyButton(command.textContent));
  }
}
