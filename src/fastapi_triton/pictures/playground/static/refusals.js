// SPDX-License-Identifier: Apache-2.0
// What the server says, in the words of a person who draws. Errors that are not listed here keep the server's own text.

const BUSY = "The server has too much to do right now.";
const STARTING = "The model is not ready right now. Your drawing stays here.";
const FAILED = "Something went wrong on the server. Your drawing stays here: try again.";
const DAMAGED = "Your drawing did not arrive whole. Press Draw again.";
const GONE = "The server does not have this choice any more. Choose another one.";

const WORDS = {
  overloaded: BUSY, queue_full: BUSY, too_many_requests: BUSY, body_buffers_full: BUSY, triton_rate_limited: BUSY,
  rate_limited: "You have drawn a lot in a short time.",
  deadline_out_of_reach: "Too many people are waiting for this server.",
  deadline_exceeded: "The picture took too long, so the server stopped. Try fewer steps, or a smaller size.",
  out_of_memory: "The server ran out of memory. Try a smaller size.",
  model_not_ready: STARTING, triton_unavailable: STARTING, triton_stopping: STARTING, cluster_not_ready: STARTING,
  triton_connection_lost: STARTING, model_process_died: STARTING,
  shutting_down: "The server is restarting. Your drawing stays here.",
  internal_error: FAILED, generation_failed: FAILED, inference_failed: FAILED, unreadable_answer: FAILED, cancelled: FAILED,
  not_an_image: DAMAGED, truncated_image: DAMAGED, undecodable_image: DAMAGED, request_too_slow: DAMAGED,
  unknown_preset: GONE, unknown_scheduler: GONE, unknown_lora: GONE, unusable_lora: GONE,
  body_too_large: "This is more than the server takes. Shorten the text, or load a smaller picture.",
};

/** An error of the server, or one of its `errors`: `{ code, detail }`. `labels` are the page's names of fields. */
export function inWords({ code, detail = "" }, labels = {}) {
  if (WORDS[code]) return WORDS[code];
  const [, found, wanted] = /^`\w+` (?:is|has) "?(.*?)"?(?: characters)?; it must (?:be|have) (.*?)\.?$/s.exec(detail) ?? [];
  const number = wanted?.match(/-?[\d.,]*\d/)?.[0];
  if (code === "wrong_type" && wanted === "a whole number") return `Write a whole number, such as 7. “${found}” is not one.`;
  if (["wrong_type", "not_finite"].includes(code) && wanted?.includes("number")) return `Write a number, such as 2.5. “${found}” is not one.`;
  if (code === "out_of_range" && wanted?.startsWith("at most")) return `${found} is too high. The highest is ${number}.`;
  if (code === "out_of_range" && wanted?.startsWith("at least")) return `${found} is too low. The lowest is ${number}.`;
  if (code === "out_of_range" && wanted?.startsWith("from")) return `${found} does not work here. Choose a number ${wanted}.`;
  if (code === "too_long" && number) return `This text is too long: ${found} characters. Shorten it to ${number}.`;
  return plain(detail, labels);
}

/** The server's own text, with the page's names of fields. */
export function plain(text, labels = {}) {
  return text.replace(/`([^`]*)`/g, (_, name) => (labels[name] ? `“${labels[name]}”` : name));
}
