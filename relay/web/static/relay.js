// Relay's pages work without this script; it spares a click here and there.
"use strict";

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

// A password can be looked at before it is sent, and is hidden again when it is.
for (const button of document.querySelectorAll("button[data-shows]")) {
  const input = document.getElementById(button.dataset.shows);
  const show = (visible) => { input.type = visible ? "text" : "password"; button.textContent = visible ? "Hide" : "Show"; button.setAttribute("aria-pressed", String(visible)); };
  button.hidden = false;
  button.setAttribute("aria-label", `Show ${input.labels[0]?.firstChild.textContent.trim() ?? "password"}`);
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

// One box for all boxes of a list.
for (const all of document.querySelectorAll("input[data-checks-all]")) {
  all.hidden = false;
  all.addEventListener("change", () => { for (const box of all.form.querySelectorAll("tbody input[type=checkbox]")) box.checked = all.checked; });
}

// On an internal server nobody overrides: the questions about it are greyed, with the reason.
for (const server of document.querySelectorAll("select[data-internal]")) {
  const internal = server.dataset.internal.split(" ");
  const isShared = () => internal.includes(server.value || "(default)");
  for (const key of ["override", "username"]) {
    const input = document.getElementById(`f-${key}`);
    const hint = document.getElementById(`${key}-hint`);
    if (!input) continue;
    const own = hint && !input.disabled ? hint.textContent : "";
    const follow = () => {
      input.disabled = isShared();
      input.closest(".field").classList.toggle("off", input.disabled);
      if (hint) hint.textContent = input.disabled ? server.dataset.shared : own;
    };
    server.addEventListener("change", follow);
    follow();
  }
}

// What is wrong with a form is read out, and the keyboard is there.
document.querySelector("[data-focus]")?.focus();

// A select that only filters a list needs no button.
for (const select of document.querySelectorAll("form.filter select")) {
  select.addEventListener("change", () => select.form.requestSubmit());
}

// Parts of a page that change while one looks: the server tells when, and the same page is read again.
const live = document.querySelectorAll("[data-live]");
if (live.length && window.EventSource) {
  const events = new EventSource("/events");
  let reading = false;
  events.addEventListener("changed", async () => {
    if (reading || document.hidden) return;
    reading = true;
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (!answer.ok || answer.redirected) return;
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const part of document.querySelectorAll("[data-live]")) {
        const other = fresh.getElementById(part.id);
        if (other && !part.contains(document.activeElement)) part.replaceWith(other);
      }
    } finally {
      reading = false;
    }
  });
  window.addEventListener("pagehide", () => events.close());
}
