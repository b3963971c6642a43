// SPDX-License-Identifier: Apache-2.0
// The body of a request: a form, or JSON if it has a field that forms cannot carry.

const JSON_ONLY = "loras"; // a list, as JSON
const TEXTS = new Set(["prompt", "negative_prompt", "preset", "scheduler"]);
const NUMBER = /^-?(0|[1-9]\d*)(\.\d+)?$/; // of JSON: without leading zeros

/** The form, or the same as JSON; and the header that names its type. */
export async function bodyOf(form) {
  if (!form.has(JSON_ONLY)) return { body: form, headers: {} }; // the browser adds the type, with the form's boundary
  const members = [];
  for (const [name, value] of form) members.push(`${JSON.stringify(name)}:${await textOf(name, value)}`);
  return { body: `{${members.join()}}`, headers: { "Content-Type": "application/json" } };
}

/** Numbers are copied as they were entered, because JavaScript rounds seeds over 2^53. */
async function textOf(name, value) {
  if (value instanceof Blob) return JSON.stringify(await dataUrlOf(value));
  return name === JSON_ONLY || (!TEXTS.has(name) && NUMBER.test(value)) ? value : JSON.stringify(value);
}

function dataUrlOf(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}
