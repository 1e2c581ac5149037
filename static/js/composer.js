// The composer: Enter sends, Shift+Enter breaks, the box grows, and what could not be sent comes back.

const field = (form) => form.elements.namedItem("text");

function grow(textarea) {
  textarea.style.blockSize = "auto";
  textarea.style.blockSize = `${textarea.scrollHeight + 2}px`;
}

document.addEventListener("input", (event) => {
  if (event.target.matches("#composer textarea")) grow(event.target);
});

document.addEventListener("keydown", (event) => {
  // While an input method composes a character, Enter belongs to it.
  if (!event.target.matches?.("#composer textarea") || event.isComposing || event.keyCode === 229) return;
  if (event.key === "Enter" && !event.shiftKey && !event.altKey) {
    event.preventDefault();
    if (event.target.value.trim()) event.target.form.requestSubmit();
  }
});

// At submit: what is typed while the request waits for an earlier one is the next message.
document.addEventListener("htmx:config:request", (event) => {
  const form = event.detail.ctx.sourceElement;
  if (form.id !== "composer") return;
  const textarea = field(form);
  event.detail.ctx.sent = textarea.value;
  textarea.value = "";
  // A resend of this text carries the key it was sent with, so that it is never asked twice.
  event.detail.ctx.key = form.elements.key.value;
  form.elements.key.value = crypto.randomUUID();
  grow(textarea);
});

document.addEventListener("htmx:finally:request", (event) => {
  const { sourceElement: form, response, sent, key } = event.detail.ctx;
  if (form?.id !== "composer" || sent === undefined || response?.status < 400) return;
  const textarea = field(form);
  textarea.value = textarea.value ? `${sent}\n${textarea.value}` : sent;
  if (textarea.value === sent) form.elements.key.value = key;
  grow(textarea);
});
