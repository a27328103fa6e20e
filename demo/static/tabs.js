// Shows one of several alternatives at a time, as tabs. Without scripts all of them are shown.
// The keyboard works as in the ARIA Authoring Practices: arrows move, Tab leaves.

let count = 0;

function tabsOf(container) {
  const panels = [...container.querySelectorAll("[data-tab]")];
  const list = document.createElement("div");
  list.className = "tab-list";
  list.setAttribute("role", "tablist");
  list.setAttribute("aria-label", container.dataset.tabs);

  const tabs = panels.map((panel) => {
    const tab = document.createElement("button");
    tab.type = "button";
    tab.className = "tab";
    tab.textContent = panel.dataset.tab;
    tab.id = `tab-${(count += 1)}`;
    tab.setAttribute("role", "tab");
    panel.id ||= `panel-${count}`;
    tab.setAttribute("aria-controls", panel.id);
    panel.setAttribute("role", "tabpanel");
    panel.setAttribute("aria-labelledby", tab.id);
    return tab;
  });

  function choose(chosen) {
    tabs.forEach((tab, index) => {
      tab.setAttribute("aria-selected", String(index === chosen));
      tab.tabIndex = index === chosen ? 0 : -1;
      panels[index].hidden = index !== chosen;
    });
  }

  tabs.forEach((tab, index) => {
    tab.addEventListener("click", () => choose(index));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = (index + step + tabs.length) % tabs.length;
      choose(next);
      tabs[next].focus();
    });
  });

  list.append(...tabs);
  container.prepend(list);
  choose(0);
}

document.querySelectorAll("[data-tabs]").forEach(tabsOf);
