// Keys that act wherever the focus is, unless it is on something that has a use for them.

export function listenToArrows(timeline) {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, textarea, select, [role=listbox], pre")) return;
    if (event.key === "ArrowRight") timeline.move(1);
    else if (event.key === "ArrowLeft") timeline.move(-1);
    else if (event.key === " " && !event.target.closest("button, summary, a, label")) timeline.toggle();
    else return;
    event.preventDefault();
  });
}
