// Relay's pages work without this script; it spares a click here and there.
"use strict";
document.documentElement.classList.add("js");

// A port follows the connection security until somebody types one.
for (const security of document.querySelectorAll("select[data-ports]")) {
  const port = document.getElementById(security.dataset.portField);
  const ports = JSON.parse(security.dataset.ports);
  let typed = port.value !== "" && !Object.values(ports).map(String).includes(port.value);
  port.addEventListener("input", () => { typed = port.value !== ""; });
  security.addEventListener("change", () => { if (!typed && port.value) port.value = ports[security.value]; else port.placeholder = ports[security.value]; });
}

// A form that does something that takes a while says so, and is not sent twice.
for (const form of document.querySelectorAll("form[method=post]")) {
  form.addEventListener("submit", (event) => {
    if (event.submitter?.dataset.test) { event.preventDefault(); test(event.submitter); return; }
    if (form.dataset.sent) { event.preventDefault(); return; }
    form.dataset.sent = "yes";
    const button = event.submitter;
    if (button) button.setAttribute("aria-busy", "true");
    setTimeout(() => { delete form.dataset.sent; if (button) button.removeAttribute("aria-busy"); }, 4000);
  });
}

// The address of a search says what was asked, and not what was left empty.
for (const form of document.querySelectorAll("form[method=get]")) {
  form.addEventListener("formdata", ({ formData }) => {
    for (const [key, value] of [...formData]) if (value === "") formData.delete(key);
  });
}

// A password can be looked at before it is sent, and is hidden again when it is.
for (const button of document.querySelectorAll("button[data-shows]")) {
  const input = document.getElementById(button.dataset.shows);
  const show = (visible) => { input.type = visible ? "text" : "password"; button.textContent = visible ? "Hide" : "Show"; button.setAttribute("aria-pressed", String(visible)); };
  button.hidden = false;
  show(false);
  button.addEventListener("click", () => { show(input.type === "password"); input.focus(); });
  input.form.addEventListener("submit", () => show(false));
}

// What is shown once can be copied by a click.
for (const button of document.querySelectorAll("button[data-copies]")) {
  const from = document.getElementById(button.dataset.copies);
  button.hidden = false;
  button.addEventListener("click", async () => {
    from.select();
    try { await navigator.clipboard.writeText(from.value); } catch { document.execCommand("copy"); }
    button.textContent = "Copied";
  });
}

// A test tells its steps below its button, instead of on a page of its own.
async function test(button) {
  const here = document.getElementById(button.dataset.test);
  const form = new URLSearchParams(new FormData(button.form));
  button.disabled = true;
  here.replaceChildren();
  try {
    const answer = await fetch(button.formAction, { method: "POST", body: form });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { done, value } = await reader.read();
      text += value ?? "";
      show(here, done ? text : text.slice(0, text.lastIndexOf("</li>") + 5));
      if (done) break;
    }
  } catch {
    here.append("The test was cut off; try again.");
  } finally {
    button.disabled = false;
  }
}

// The Enter key in the address of a test tests; anywhere else in the form it saves.
for (const button of document.querySelectorAll("button[data-test]")) {
  button.form.elements.to?.addEventListener("keydown", (event) => {
    if (event.key === "Enter") { event.preventDefault(); button.click(); }
  });
}

// What is new of a page that is still coming.
function show(here, text) {
  const page = new DOMParser().parseFromString(text, "text/html");
  const fresh = page.getElementById("test");
  if (!fresh) { if (page.querySelector("main .notice")) here.replaceChildren(page.querySelector("main .notice")); return; }
  const known = here.querySelector("ol");
  if (!known) { here.replaceChildren(fresh); fresh.removeAttribute("id"); return; }
  known.append(...[...fresh.querySelectorAll("ol > li")].slice(known.children.length));
  const outcome = fresh.querySelector(".outcome");
  if (outcome) known.after(outcome);
}

// A provider that is chosen fills in what is known of it.
for (const choice of document.querySelectorAll("select[data-fills]")) {
  const hint = document.getElementById(`${choice.name}-hint`);
  choice.form.querySelector("button[data-same-page]")?.remove();
  choice.addEventListener("change", () => {
    const chosen = choice.selectedOptions[0].dataset;
    if (!chosen.fill) return;
    for (const [key, value] of Object.entries(JSON.parse(chosen.fill))) {
      const field = document.getElementById(choice.dataset.fills + key);
      if (!field) continue;
      field.value = field.tagName === "SELECT" && !value ? field.options[0].value : value;
      for (const event of ["input", "change"]) field.dispatchEvent(new Event(event));
    }
    document.getElementById(`${choice.dataset.fills}host`).placeholder = chosen.host;
    hint.textContent = chosen.note;
  });
}

// What is needed for one choice alone opens with it.
for (const group of document.querySelectorAll("details[data-opens-with]")) {
  const choice = document.getElementById(`f-${group.dataset.opensWith}`);
  choice.addEventListener("change", () => { if (choice.value === group.dataset.value) group.open = true; });
}

// On an internal server nobody logs in with an account of their own.
for (const server of document.querySelectorAll("select[name=server]")) {
  const fields = server.form.querySelectorAll("[data-override]");
  const hints = new Map([...fields].map((field) => [field, document.getElementById(`${field.name}-hint`)]));
  const words = new Map([...hints.values()].map((hint) => [hint, hint.textContent]));
  server.addEventListener("change", () => {
    const off = server.selectedOptions[0].dataset.off;
    for (const field of fields) {
      field.disabled = Boolean(off);
      field.closest(".field").classList.toggle("off", Boolean(off));
      const hint = hints.get(field);
      hint.textContent = off ? (field.type === "checkbox" ? off : "Only with an override.") : (hint.dataset.on ?? words.get(hint));
    }
  });
}

// What goes on in the background is read again while it does.
async function readTrial() {
  const here = document.querySelector("[data-reads-again=yes]");
  if (!here) return;
  await new Promise((resolve) => setTimeout(resolve, 1000));
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html", "Relay-By-Itself": "yes" } });
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById(here.id);
    if (!fresh) return;
    if (!fresh.dataset.readsAgain) { location.reload(); return; }
    here.replaceWith(fresh);
  } catch {
    // The server is away; the next look may find it.
  }
  readTrial();
}
readTrial();

// What is wrong with a form is read out, and the keyboard is there.
document.querySelector("[data-focus]")?.focus();

// A select that only filters a list needs no button.
for (const select of document.querySelectorAll("form.filter select")) {
  select.addEventListener("change", () => select.form.requestSubmit());
}

// One tick chooses all that are shown. The list is read again while one looks, so nothing hangs on its elements.
document.addEventListener("change", (event) => {
  const all = event.target.closest("[data-check-all]");
  if (!all) return;
  for (const one of all.form.querySelectorAll(`input[type=checkbox][name="${all.dataset.checkAll}"]`)) one.checked = all.checked;
});

// Parts of a page that change while one looks: the server tells when, and the same page is read again. What somebody
// is at (the keyboard is in it, something is ticked) stays as it is; what is unfolded stays unfolded.
const isInUse = (part) => part.contains(document.activeElement) || part.querySelector("input:checked");

function replaceLiveParts(fresh) {
  for (const part of document.querySelectorAll("[data-live]")) {
    const other = fresh.getElementById(part.id);
    if (!other || isInUse(part)) continue;
    for (const one of part.querySelectorAll("details[id][open]")) other.querySelector(`#${one.id}`)?.setAttribute("open", "");
    part.replaceWith(other);
  }
}

if (document.querySelector("[data-live]") && window.EventSource) {
  let events = null, isReading = false, isStale = false;
  async function readAgain() {
    isStale = true;
    if (isReading || document.hidden) return;
    isReading = true;
    try {
      while (isStale) {
        isStale = false;
        const answer = await fetch(location.href, { headers: { Accept: "text/html", "Relay-By-Itself": "yes" } });
        if (answer.ok && !answer.redirected) replaceLiveParts(new DOMParser().parseFromString(await answer.text(), "text/html"));
      }
    } catch {
      // The server is away; the stream opens again when it is back.
    } finally {
      isReading = false;
    }
  }
  // Only what one looks at listens: a browser has six connections to a server, each listener keeps one, and the tab
  // behind the sixth would wait for ever.
  function listen() {
    if (document.hidden) { stopListening(); return; }
    if (events) return;
    events = new EventSource("/events");
    events.addEventListener("changed", readAgain);
    events.addEventListener("open", readAgain);  // what changed before it was open nobody told
  }
  function stopListening() { events?.close(); events = null; }
  listen();
  document.addEventListener("visibilitychange", listen);
  window.addEventListener("pagehide", stopListening);
  window.addEventListener("pageshow", listen);
}
