// SPDX-License-Identifier: Apache-2.0
// Runs before the page is painted, so that it never flashes in the wrong theme. The default is the system's theme.
try {
  const chosen = localStorage.getItem("theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
} catch {
  // The browser stores nothing: use the system's theme.
}
