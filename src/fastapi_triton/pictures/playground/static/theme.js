// SPDX-License-Identifier: Apache-2.0
// Runs before anything is painted, so that a chosen theme never flashes. Without a choice the system's counts.
try {
  const chosen = localStorage.getItem("theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
} catch {
  // This browser keeps nothing; the system's theme it is.
}
