// SPDX-License-Identifier: Apache-2.0
// Several requests at once, as many as the server takes.

/**
 * Run all tasks, like `Promise.allSettled`. A task that fails with an error for which `isRefused` is true was not begun
 * by the server: it runs again when another one has ended.
 */
export function together(tasks, isRefused) {
  const running = new Set();
  const attempt = async (task) => {
    for (;;) {
      const run = task();
      running.add(run);
      try {
        return await run;
      } catch (error) {
        running.delete(run);
        if (!isRefused(error) || !running.size) throw error;
      } finally {
        running.delete(run);
      }
      await Promise.race(running).catch(() => null);
    }
  };
  return Promise.allSettled(tasks.map(attempt));
}
