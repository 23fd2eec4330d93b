"use strict";
// The page is complete without this: it adds copying, filtering, jumping from the timeline, and ages that keep up.
(() => {
  const said = document.getElementById("said");

  const say = (text) => {
    said.textContent = "";
    setTimeout(() => { said.textContent = text; }, 50);
  };

  const copyText = async (text) => {
    if (navigator.clipboard && window.isSecureContext) {
      try {
        await navigator.clipboard.writeText(text);
        return true;
      } catch { /* refused: the old way below */ }
    }
    const field = document.createElement("textarea");
    field.value = text;
    field.setAttribute("readonly", "");
    field.className = "unseen";
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    return done;
  };

  for (const button of document.querySelectorAll("button[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const done = await copyText(button.dataset.copy);
      button.focus();
      button.textContent = done ? "Copied" : "Select it";
      button.classList.toggle("done", done);
      say(done ? `Copied ${button.dataset.copy}` : "Copying was refused: select the text instead");
      setTimeout(() => { button.textContent = "Copy"; button.classList.remove("done"); }, 2000);
    });
  }

  for (const mark of document.querySelectorAll("[data-jump]")) {
    mark.addEventListener("click", () => {
      const entry = document.getElementById(mark.dataset.jump);
      if (!entry) return;
      entry.hidden = false;
      entry.scrollIntoView({ block: "center" });
      entry.focus({ preventScroll: true });
    });
  }

  const filter = document.getElementById("filter");
  const found = document.getElementById("found");
  const entries = [...document.querySelectorAll("ol.backups > li")].map((entry) => [entry, entry.textContent.toLowerCase()]);
  if (entries.length > 5) {
    filter.parentElement.hidden = false;
    filter.addEventListener("input", () => {
      const wanted = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const [entry, text] of entries) {
        entry.hidden = !wanted.every((word) => text.includes(word));
        shown += entry.hidden ? 0 : 1;
      }
      found.textContent = wanted.length ? `${shown} of ${entries.length}` : "";
    });
  }

  const age = (seconds) => {
    if (seconds < 3600) return `${Math.max(1, Math.round(seconds / 60))} min`;
    if (seconds < 2 * 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
    return `${Math.floor(seconds / 86400)} days`;
  };
  const made = document.querySelector("header time");
  const keepUp = () => {
    const now = Date.now();
    for (const span of document.querySelectorAll("[data-age]")) {
      const seconds = (now - Date.parse(span.dataset.age)) / 1000;
      if (seconds >= 60) span.textContent = age(seconds);
    }
    const old = (now - Date.parse(made.dateTime)) / 1000;
    const stale = document.getElementById("stale");
    stale.hidden = old < 26 * 3600;
    stale.textContent = ` (${age(old)} ago: make it again before you rely on it)`;
  };
  for (const time of document.querySelectorAll("time")) {
    time.title = new Date(time.dateTime).toLocaleString([], { dateStyle: "full", timeStyle: "short" });
  }
  keepUp();
  setInterval(keepUp, 60000);
})();
