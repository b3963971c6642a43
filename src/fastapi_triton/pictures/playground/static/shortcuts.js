// SPDX-License-Identifier: Apache-2.0
// The sheet with the keyboard shortcuts: `?` opens it.

/** `dialog` is the sheet, `button` opens it too. */
export class Shortcuts {
  constructor(dialog, button) {
    button.addEventListener("click", () => dialog.showModal());
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog) dialog.close(); // beside the sheet
    });
    document.addEventListener("keydown", (event) => {
      const isTyping = event.target.matches("input:not([type=range]), textarea, select");
      if (event.key !== "?" || isTyping || document.querySelector("dialog[open]")) return;
      event.preventDefault();
      dialog.showModal();
    });
  }
}
