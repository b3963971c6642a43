// SPDX-License-Identifier: Apache-2.0
// Runs before the page is painted, so that it never flashes in the wrong theme. The default is the system's theme.
{
  const root = document.documentElement;
  try {
    const chosen = localStorage.getItem("theme");
    if (chosen) root.dataset.theme = chosen;
  } catch {
    // The browser stores nothing: use the system's theme.
  }

  const isDark = () => (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";

  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    button.ariaPressed = String(isDark());
    button.addEventListener("click", () => {
      const theme = isDark() ? "light" : "dark";
      root.dataset.theme = theme;
      button.ariaPressed = String(theme === "dark");
      try {
        localStorage.setItem("theme", theme);
      } catch {
        // The browser stores nothing: the theme is lost when the page is closed.
      }
    });
  });
}
