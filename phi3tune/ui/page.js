// What the page does by itself: language, shortcuts, the palette, arrow keys between tabs, notices of ended jobs.
// It stands in the page's head and runs before Gradio's part. Gradio draws and redraws everything after that, so nothing
// here keeps an element of it: events are caught at the document, and elements are looked up when they are needed.
(() => {
  "use strict";
  const TEXTS = __TEXTS__;
  const LANGUAGE = document.documentElement.lang;
  const YEAR = 365 * 24 * 3600;

  // Gradio goes by the browser's language; the reader's choice comes first.
  Object.defineProperty(navigator, "language", { get: () => LANGUAGE, configurable: true });

  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const shown = (element) => element.getClientRects().length > 0;
  const pressable = (element) => shown(element) && !element.disabled;

  // Language
  function setLanguage(language) {
    // On a Space the page stands in a frame of another site, where only such cookies are kept.
    const framed = location.protocol === "https:" ? "Secure; SameSite=None; Partitioned" : "SameSite=Lax";
    document.cookie = `phi3tune_language=${encodeURIComponent(language)}; path=/; max-age=${YEAR}; ${framed}`;
    location.reload();
  }

  // Tabs. One of a list is in the order of Tab; the arrow keys go to the others.
  const tabsOf = (list) => all(':scope > [role="tab"]', list).filter(shown);

  function putInOrder() {
    for (const tab of all('[role="tablist"] > [role="tab"]')) {
      const index = tab.getAttribute("aria-selected") === "true" ? 0 : -1;
      if (tab.tabIndex !== index) tab.tabIndex = index;
    }
    for (const head of all(".gr-accordion > .label-wrap")) {
      const content = head.nextElementSibling;
      const open = String(Boolean(content) && content.style.display !== "none");
      if (head.getAttribute("aria-expanded") !== open) head.setAttribute("aria-expanded", open);
    }
  }

  function arrow(event, tab) {
    const tabs = tabsOf(tab.parentElement);
    const place = tabs.indexOf(tab);
    const next = {
      ArrowRight: (place + 1) % tabs.length,
      ArrowLeft: (place - 1 + tabs.length) % tabs.length,
      Home: 0,
      End: tabs.length - 1,
    }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    tabs[next].click();
    tabs[next].focus();
    tabs[next].scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  // What the palette offers: the tabs, and the buttons of all tabs. Gradio draws a tab when it is first opened, so what
  // has not been drawn yet is read from its plan of the page.
  const plan = () => window.gradio_config || {};

  function said(text) {
    const mark = "__i18n__";
    if (typeof text !== "string" || !text.startsWith(mark)) return typeof text === "string" ? text : "";
    const words = plan().i18n_translations || {};
    const { key } = JSON.parse(text.slice(mark.length));
    return (words[LANGUAGE] && words[LANGUAGE][key]) || (words.en && words.en[key]) || "";
  }

  function commands() {
    const known = new Map((plan().components || []).map((component) => [component.id, component]));
    const found = [];
    const mainTabs = new Map(all('#tabs > .tab-wrapper [role="tab"]').map((tab) => [tab.dataset.tabId, tab]));
    const visit = (node, tab, hidden) => {
      const component = known.get(node.id);
      const props = (component && component.props) || {};
      let inTab = tab;
      if (component && component.type === "tabitem" && mainTabs.has(String(props.id)) && !tab) {
        inTab = { id: String(props.id), name: said(props.label) };
        found.push({ text: inTab.name, where: TEXTS.tab, tab: inTab.id });
      }
      const away = hidden || props.visible === false || props.visible === "hidden";
      if (component && component.type === "button" && inTab && props.elem_id) {
        const button = document.getElementById(props.elem_id);
        const text = button ? button.innerText.trim() || button.textContent.trim() : said(props.value);
        if (text && (button || !away)) found.push({ text, where: inTab.name, tab: inTab.id, id: props.elem_id });
      }
      for (const child of node.children || []) visit(child, inTab, away);
    };
    visit(plan().layout || {}, null, false);
    return found;
  }

  function whenThere(id, act, end = performance.now() + 3000) {
    const element = document.getElementById(id);
    if (element) act(element);
    else if (performance.now() < end) requestAnimationFrame(() => whenThere(id, act, end));
  }

  function go(command) {
    const tab = document.querySelector(`#tabs > .tab-wrapper [role="tab"][data-tab-id="${CSS.escape(command.tab)}"]`);
    if (tab) tab.click();
    if (!command.id) {
      if (tab) tab.focus();
      return;
    }
    whenThere(command.id, (button) => {
      for (let box = button.closest(".gr-accordion"); box; box = box.parentElement.closest(".gr-accordion")) {
        const head = box.querySelector(":scope > .label-wrap");
        if (head && head.getAttribute("aria-expanded") === "false") head.click();
      }
      requestAnimationFrame(() => {
        button.scrollIntoView({ block: "center" });
        button.focus({ focusVisible: true });
      });
    });
  }

  // The palette
  let palette = null;

  function openPalette() {
    if (!palette) palette = makePalette();
    if (palette.dialog.open) return;
    palette.input.value = "";
    palette.commands = commands();
    palette.dialog.showModal();
    filter();
  }

  function makePalette() {
    const dialog = document.createElement("dialog");
    dialog.className = "pt-palette";
    dialog.setAttribute("aria-label", TEXTS.commands);
    const input = document.createElement("input");
    const list = document.createElement("ul");
    const keys = document.createElement("p");
    list.id = "pt-commands";
    list.setAttribute("role", "listbox");
    list.setAttribute("aria-label", TEXTS.commands);
    keys.textContent = TEXTS.keys;
    const properties = { role: "combobox", "aria-controls": list.id, "aria-expanded": "true", "aria-autocomplete": "list" };
    for (const [name, value] of Object.entries(properties)) input.setAttribute(name, value);
    input.setAttribute("aria-label", TEXTS.find);
    input.placeholder = TEXTS.find;
    input.autocomplete = "off";
    dialog.append(input, list, keys);
    document.body.append(dialog);
    input.addEventListener("input", filter);
    dialog.addEventListener("keydown", palettesKey);
    dialog.addEventListener("click", (event) => {
      const item = event.target.closest("[role=option]");
      if (item) choose(Number(item.dataset.place));
      else if (event.target === dialog) dialog.close();
    });
    return { dialog, input, list, commands: [], matches: [], place: 0 };
  }

  function filter() {
    const asked = palette.input.value.toLocaleLowerCase().split(/\s+/).filter(Boolean);
    palette.matches = palette.commands.filter((command) => {
      const text = `${command.text} ${command.where}`.toLocaleLowerCase();
      return asked.every((part) => text.includes(part));
    });
    const items = palette.matches.map((command, place) => {
      const item = document.createElement("li");
      const where = document.createElement("small");
      item.id = `pt-command-${place}`;
      item.dataset.place = String(place);
      item.setAttribute("role", "option");
      where.textContent = command.where;
      item.append(command.text, where);
      return item;
    });
    palette.list.replaceChildren(...items);
    palette.dialog.lastElementChild.textContent = items.length ? TEXTS.keys : TEXTS.nothing;
    mark(0);
  }

  function mark(place) {
    palette.place = place;
    for (const item of palette.list.children) item.setAttribute("aria-selected", String(item.id === `pt-command-${place}`));
    const item = palette.list.children[place];
    palette.input.setAttribute("aria-activedescendant", item ? item.id : "");
    if (item) item.scrollIntoView({ block: "nearest" });
  }

  function choose(place) {
    const command = palette.matches[place];
    if (!command) return;
    palette.dialog.close();
    go(command);
  }

  function palettesKey(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const count = palette.matches.length;
    if (step && count) mark((palette.place + step + count) % count);
    else if (event.key === "Enter" && !event.isComposing) choose(palette.place);
    else return;
    event.preventDefault();
  }

  // Keys
  function pressMain() {
    const main = all(".pt-main").map((part) => (part.matches("button") ? part : part.querySelector("button"))).find((b) => b && pressable(b));
    if (!main) return false;
    // A box that is being written in tells the page what it holds when it is left.
    const box = document.activeElement;
    if (box) box.blur();
    main.click();
    if (box && box.isConnected) box.focus();
    return true;
  }

  document.addEventListener(
    "keydown",
    (event) => {
      const withControl = (event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey;
      if (withControl && event.key.toLowerCase() === "k") {
        event.preventDefault();
        openPalette();
      } else if (document.querySelector("dialog[open]")) {
        return;
      } else if (withControl && event.key === "Enter") {
        if (!pressMain()) return;
        event.preventDefault();
        event.stopPropagation();
      } else if (event.key === "Escape" && !event.defaultPrevented && !event.isComposing) {
        const stop = document.getElementById("stop-answer");
        const list = document.activeElement && document.activeElement.getAttribute("aria-expanded") === "true";
        if (stop && pressable(stop) && !list) stop.click();
      } else if (event.target instanceof Element && event.target.matches('[role="tab"]')) {
        arrow(event, event.target);
      }
    },
    true,
  );

  document.addEventListener("click", (event) => {
    const target = event.target instanceof Element ? event.target : document.body;
    const language = target.closest("[data-set-language]");
    if (language) setLanguage(language.dataset.setLanguage);
    else if (target.closest("[data-open-palette]")) openPalette();
    else if (target.closest(".pt-skip")) skip(event);
    // Browsers let a page ask for notices only when something was pressed.
    if (target.closest(".pt-main") && "Notification" in window && Notification.permission === "default") {
      Notification.requestPermission();
    }
  });

  function skip(event) {
    event.preventDefault();
    const tab = document.querySelector('#tabs > .tab-wrapper [role="tab"][aria-selected="true"]');
    if (tab) tab.focus();
  }

  // Notices of jobs that have ended, for those who look at something else meanwhile
  let told = "";

  function notify() {
    const last = all("#announcer [data-job]").pop();
    const what = last ? `${last.dataset.job} ${last.dataset.state}` : "";
    if (what === told) return;
    told = what;
    if (!what || !document.hidden || !("Notification" in window) || Notification.permission !== "granted") return;
    const notice = new Notification("phi3tune", { body: last.textContent.trim(), tag: what });
    notice.addEventListener("click", () => {
      window.focus();
      notice.close();
    });
  }

  new MutationObserver(() => {
    putInOrder();
    notify();
  }).observe(document, { childList: true, subtree: true, attributes: true, attributeFilter: ["aria-selected", "style"] });
})();
