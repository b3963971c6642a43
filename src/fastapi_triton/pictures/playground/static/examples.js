// SPDX-License-Identifier: Apache-2.0
// Drawings to begin with, each with its prompt.

/** Add a button for each example. `choose(prompt, file)` gets the address of its drawing. */
export function showExamples(host, examples, choose) {
  host.append(...examples.map(({ prompt, file }) => {
    const [button, image] = [document.createElement("button"), document.createElement("img")];
    Object.assign(button, { type: "button", className: "example", title: prompt });
    Object.assign(image, { src: file, alt: "", width: 40, height: 40 });
    button.append(image, Object.assign(document.createElement("span"), { textContent: prompt }));
    button.addEventListener("click", () => choose(prompt, file));
    return button;
  }));
}
