"use strict";
// What the page shows is what the server says, asked once a second; nothing is kept here but which
// strength and which photo are looked at. So any number of tabs show the same.
(() => {
  const EVERY = 1000; // milliseconds
  const at = (id) => document.getElementById(id);
  const rows = new Map(); // by name of the photo
  let state = null, said = "", adding = Promise.resolve(), looked = null, shown = {};

  function make(tag, properties, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  const query = (values) => new URLSearchParams(values).toString();
  const chosen = () => document.querySelector("#strengths input:checked")?.value ?? "medium";
  const photos = (count) => `${count} ${count === 1 ? "photo" : "photos"}`;
  // A name is shown on one line, as it is; what cannot be shown is spelled out.
  const plain = (name) => name.replace(/[\p{Cc}\p{Cf}\p{Cs}]/gu,
    (character) => `\\u${character.codePointAt(0).toString(16).padStart(4, "0")}`);

  async function ask(address, options = {}) {
    const answer = await fetch(address, options);
    if (!answer.ok) throw new Error(await answer.text());
    return answer;
  }

  // Asks for something to be done, and shows what came of it.
  async function act(address, method) {
    try {
      await ask(address, { method });
      say(at("trouble"), "");
    } catch (error) {
      say(at("trouble"), error.message);
    }
    await refresh();
  }

  function say(element, text) {
    if (element.textContent !== text) element.textContent = text; // else it is read aloud again
  }

  // ---- giving photos ----

  async function* below(entry, path) {
    if (entry.isFile) {
      const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
      yield [path + file.name, file];
      return;
    }
    const reader = entry.createReader();
    for (;;) {
      const inner = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (!inner.length) return;
      for (const each of inner) yield* below(each, `${path}${entry.name}/`);
    }
  }

  async function dropped(items) {
    // All entries are taken at once: the list is empty as soon as anything is waited for.
    const taken = Array.from(items, (item) => [item.webkitGetAsEntry?.(), item.getAsFile()]);
    const found = [];
    for (const [entry, file] of taken) {
      if (entry) for await (const each of below(entry, "")) found.push(each);
      else if (file) found.push([file.name, file]);
    }
    return found;
  }

  // `given` is a list of [name, file] pairs; one goes after the other, also those of a second drop.
  function add(given) {
    adding = adding.then(async () => {
      let place = 0, refused = 0;
      for (const [name, file] of given) {
        say(at("adding"), `Adding ${++place} of ${given.length}: ${plain(name)}`);
        try {
          const body = await file.arrayBuffer();
          await ask(`photos?${query({ name })}`, { method: "PUT", body });
        } catch (error) {
          refused += 1;
          at("refused").append(make("li", {}, plain(error.message)));
        }
      }
      say(at("adding"), `${photos(place - refused)} added` + (refused ? `, ${refused} not.` : "."));
      await refresh();
    });
  }

  for (const id of ["files", "folder"]) {
    at(id).addEventListener("change", (event) => {
      at("refused").replaceChildren();
      add(Array.from(event.target.files, (file) => [file.webkitRelativePath || file.name, file]));
      event.target.value = "";
    });
  }
  // Anywhere on the page: beside the field the browser would leave it and open the photo.
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    at("drop").classList.add("over");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) at("drop").classList.remove("over");
  });
  document.addEventListener("drop", async (event) => {
    event.preventDefault();
    at("drop").classList.remove("over");
    at("refused").replaceChildren();
    add(await dropped(event.dataTransfer.items));
  });

  // ---- the list ----

  function showStrengths() {
    if (at("strengths").querySelector("input")) return;
    const used = (strength) => state.photos.filter((each) => each.results[strength]).length;
    const most = Math.max(...state.strengths.map(({ name }) => used(name)));
    const first = ["medium", "strong", "gentle"].find((strength) => used(strength) === most);
    for (const { name, words } of state.strengths) {
      const input = make("input", { type: "radio", name: "strength", value: name, checked: name === first });
      input.addEventListener("change", show);
      const label = make("label", {}, input, ` ${words}`);
      at("strengths").append(label);
    }
  }

  function makeRow(name) {
    const verdict = make("td", {}), actions = make("td", { className: "actions" });
    const label = (what) => ({ type: "button", ariaLabel: `${what}: ${plain(name)}` });
    const compare = make("button", label("Compare"), "Compare");
    compare.addEventListener("click", () => look(name));
    const download = make("a", { className: "button", download: "", ariaLabel: `Download: ${plain(name)}` }, "Download");
    const remove = make("button", label("Remove"), "Remove");
    remove.addEventListener("click", async () => {
      const following = row.nextElementSibling ?? row.previousElementSibling;
      await act(`photos?${query({ name })}`, "DELETE");
      (following?.querySelector("button") ?? at("files")).focus();
    });
    actions.append(compare, download, remove);
    const picture = make("img", { alt: "", loading: "lazy", src: `thumbnail?${query({ name })}` });
    picture.addEventListener("error", () => { picture.hidden = true; });
    const row = make("tr", {}, make("th", { scope: "row" }, picture, plain(name)), verdict, actions);
    return { row, verdict, compare, download, remove };
  }

  function showRow(photo) {
    if (!rows.has(photo.name)) rows.set(photo.name, makeRow(photo.name));
    const { row, verdict, download, remove } = rows.get(photo.name), strength = chosen();
    const result = photo.results[strength], failure = photo.failures[strength];
    const text = result?.word ?? failure ?? "";
    if (verdict.textContent !== text) {
      verdict.replaceChildren(make("span", {
        className: result ? (result.tone && `tone ${result.tone}`) : "failed",
      }, text));
    }
    download.hidden = !result;
    download.href = `result?${query({ name: photo.name, strength })}`;
    remove.disabled = state.work.running;
    return row;
  }

  function show() {
    const { work } = state, strength = chosen(), focused = document.activeElement;
    const there = state.photos.filter((each) => each.there);
    const left = there.filter((each) => !each.results[strength]).length;
    const done = state.photos.filter((each) => each.results[strength]).length;
    const current = state.photos.map(showRow), body = at("list").tBodies[0];
    for (const [name, { row }] of rows) {
      if (current.includes(row)) continue;
      row.remove();
      rows.delete(name);
    }
    // Only what is elsewhere is moved: a row that is taken away loses the focus.
    current.forEach((row, place) => {
      if (body.rows[place] !== row) body.insertBefore(row, body.rows[place] ?? null);
    });
    at("list").hidden = at("removal").hidden = !state.photos.length;
    at("list").parentElement.classList.toggle("long", state.photos.length > 24);
    at("none").hidden = state.photos.length > 0;
    say(at("place"), plain(state.folder));

    const what = left === there.length ? `Protect ${photos(left)}` : `Go on with ${photos(left)}`;
    say(at("start"), !there.length ? "Protect all" : left ? what : "All are done");
    at("start").disabled = work.running || !left;
    at("stop").disabled = !work.running;
    at("try").disabled = work.running;
    at("remove-all").disabled = work.running;
    at("remove-originals").disabled = work.running || !there.length;
    at("zip").hidden = !done;
    at("zip").href = `results.zip?${query({ strength })}`;
    say(at("zip"), `Download ${photos(done)} (zip)`);

    at("progress").hidden = !work.running;
    if (work.running) {
      at("progress").max = work.total || 1;
      at("progress").value = work.done;
    }
    const progress = work.message || `${work.strength}: ${work.done} of ${photos(work.total)} done.`;
    if (work.running) say(at("status"), work.stopping ? "Stopping after the photos under way …" : progress);
    else if (work.message) say(at("status"), work.message);
    const lines = state.summaries[strength] ?? [];
    if (at("summary").textContent !== lines.join("")) {
      at("summary").replaceChildren(...lines.map((line) => make("p", {}, line)));
    }
    // A button that can be used no longer gives the focus to what can.
    if (focused?.disabled) {
      const others = focused.id === "try" ? ["compare-title"] : ["stop", "start", "work-title"];
      at(others.find((id) => !at(id).disabled)).focus();
    }
    showLooked();
  }

  // ---- one photo at all strengths ----

  function look(name) {
    looked = name;
    shown = {};
    at("shown").replaceChildren();
    say(at("compare-title"), plain(name));
    at("compare").hidden = false;
    showLooked();
    at("compare-title").focus();
  }

  async function showLooked() {
    const photo = state.photos.find((each) => each.name === looked);
    if (!photo) {
      at("compare").hidden = true;
      looked = null;
      return;
    }
    at("try").hidden = !photo.there || state.strengths.every(({ name }) => photo.results[name]);
    for (const [place, { name: strength }] of state.strengths.entries()) {
      if (!photo.results[strength] || shown[strength]) continue;
      shown[strength] = true; // before anything is waited for: the next second comes here too
      say(at("looking"), "Loading the pictures …");
      const answer = await ask(`shown?${query({ name: photo.name, strength })}`);
      const text = await answer.text();
      if (looked !== photo.name) return;
      const holder = make("template", { innerHTML: text }); // made and escaped by our own templates
      const section = holder.content.querySelector("section");
      section.dataset.place = place;
      const after = Array.from(at("shown").children).find((each) => each.dataset.place > place);
      at("shown").insertBefore(section, after ?? null);
      section.dispatchEvent(new Event("sections", { bubbles: true }));
      say(at("looking"), "");
    }
  }

  // ---- asking ----

  async function refresh() {
    let text;
    try {
      text = await (await ask("state")).text();
    } catch {
      said = "";
      say(at("status"), "rpfgsm app is not running any more. Start it again with the same command; "
        + "it goes on, on a page of its own.");
      at("work").inert = at("photos").inert = true;
      return;
    }
    if (text === said) return;
    said = text;
    state = JSON.parse(text);
    at("work").inert = at("photos").inert = false;
    showStrengths();
    show();
  }

  at("start").addEventListener("click", () => act(`start?${query({ strength: chosen() })}`, "POST"));
  at("stop").addEventListener("click", () => act("stop", "POST"));
  at("try").addEventListener("click", () => {
    const wanted = [["name", looked], ...state.strengths.map(({ name }) => ["strength", name])];
    act(`start?${query(wanted)}`, "POST");
  });
  at("close").addEventListener("click", () => {
    const { compare } = rows.get(looked);
    looked = null;
    at("compare").hidden = true;
    compare.focus();
  });
  at("remove-originals").addEventListener("click", () => act("photos?what=originals", "DELETE"));
  at("remove-all").addEventListener("click", () => {
    if (confirm("Remove all photos, results and records from this folder?")) {
      act("photos?what=everything", "DELETE");
    }
  });

  refresh();
  setInterval(refresh, EVERY);
})();
