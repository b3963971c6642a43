// SPDX-License-Identifier: Apache-2.0
// Counts seconds down.

/** Calls `show(seconds)` now and at each full second, and `end` after the last one. Returns a function that stops it. */
export function countDown(seconds, show, end = () => {}) {
  const endsAt = performance.now() + 1000 * seconds;
  let timer;
  const tick = () => {
    const left = Math.ceil((endsAt - performance.now()) / 1000 - 0.05); // timers are a little early at times
    if (left <= 0) {
      end();
      return;
    }
    show(left);
    timer = setTimeout(tick, endsAt - performance.now() - 1000 * (left - 1));
  };
  tick();
  return () => clearTimeout(timer);
}
