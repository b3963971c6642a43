// SPDX-License-Identifier: Apache-2.0
// Several requests at once, as many as the server takes.

/**
 * Run all tasks, like `Promise.allSettled`. A task that fails with an error for which `isRefused` is true was not begun
 * by the server. It runs again when another one has made room: one that ended otherwise than by a refusal. If all that
 * are left were refused, it fails.
 */
export function together(tasks, isRefused) {
  let numRunning = tasks.length;
  const waiting = []; // for each refused task: a function that takes whether it runs again
  const wake = (isAgain) => {
    if (isAgain) numRunning += waiting.length;
    for (const resolve of waiting.splice(0)) resolve(isAgain);
  };
  const attempt = async (task) => {
    for (;;) {
      const [result] = await Promise.allSettled([task()]);
      numRunning--;
      if (!result.reason || !isRefused(result.reason)) {
        wake(true);
        return result;
      }
      const isAgain = new Promise((resolve) => waiting.push(resolve));
      if (!numRunning) wake(false);
      if (!(await isAgain)) return result;
    }
  };
  return Promise.all(tasks.map(attempt));
}
