// SPDX-License-Identifier: Apache-2.0
// Keeps the keyboard's focus on the page: a browser takes it from controls that are disabled, hidden or removed.

/** Make a `change` to the page. If it takes the focus from a control, `next` gets it; by default, the Draw button. */
export function keepFocus(change, next = document.getElementById("draw")) {
  const before = document.activeElement;
  change();
  const isLost = before !== document.body && (!before.isConnected || before.disabled || !before.checkVisibility());
  if (isLost) next.focus({ preventScroll: true });
}
