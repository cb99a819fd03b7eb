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
  const events = new EventSource("/events");
  let isReading = false, isStale = false;
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
  events.addEventListener("changed", readAgain);
  events.addEventListener("open", readAgain);  // what changed before it was open nobody told
  document.addEventListener("visibilitychange", () => { if (isStale) readAgain(); });
  window.addEventListener("pagehide", () => events.close());
}
