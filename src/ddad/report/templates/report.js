"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const read = (id) => { const element = byId(id); return element ? JSON.parse(element.textContent) : null; };
  const make = (tag, name, text) => {
    const element = document.createElement(tag);
    if (name) element.className = name;
    if (text !== undefined) element.textContent = text;  // never as HTML: a path may hold some
    return element;
  };
  // What a list on the page stands at, in words, for paper: the lists themselves are not printed.
  const choice = (id) => {
    const list = byId(id), name = list.parentElement.firstChild.textContent.trim();
    return `${name}: ${list.selectedOptions[0].textContent}`;
  };
  const short = (value) => value === null ? "–" : String(Number(value.toPrecision(4)));

  // Scores: one panel of charts at a time, with a line that the slider moves.
  const counts = read("counts") || [];
  const panels = [...document.querySelectorAll(".panel")];
  const choose = () => {
    const run = byId("run") ? byId("run").value : "0", of = panels.filter((panel) => panel.dataset.run === run);
    const list = byId("score"), has = (name) => of.some((panel) => panel.dataset.score === name);
    for (const option of list.options) option.disabled = !has(option.value);
    if (!has(list.value) && of.length) list.value = of.at(-1).dataset.score;  // another method has other scores
    const score = list.value;
    for (const panel of panels) panel.hidden = panel.dataset.run !== run || panel.dataset.score !== score;
    byId("shown-scores").textContent = ["run", "score"].filter(byId).map(choice).join(", ");
  };
  panels.forEach((panel, number) => {
    const { values, labels, threshold, strictly } = counts[number];
    const slider = panel.querySelector("input"), said = panel.querySelector(".counted");
    if (!slider) return;
    const svg = panel.querySelector(".histogram svg"), line = svg.querySelector(".threshold");
    const { low, high, left, right } = Object.fromEntries(Object.entries(svg.dataset).map(([k, v]) => [k, Number(v)]));
    const share = (count, of) => of ? `${count} of ${of} (${(100 * count / of).toFixed(1)} %)` : "none";
    const say = (at) => {
      const x = Math.min(right, Math.max(left, left + (at - low) / (high - low) * (right - left)));
      line.setAttribute("x1", x); line.setAttribute("x2", x);
      const above = (wanted) => {
        let count = 0, of = 0;
        values.forEach((value, index) => {
          if (wanted === null || labels[index] === wanted) { of += 1; count += strictly ? value > at : value >= at; }
        });
        return share(count, of);
      };
      said.textContent = `${strictly ? "Above" : "At or above"} ${short(at)}: ` +
        (labels ? `${above(1)} abnormal, ${above(0)} normal` : above(null));
      slider.setAttribute("aria-valuetext", said.textContent);
    };
    slider.value = Math.round(1000 * (threshold - low) / (high - low));
    slider.addEventListener("input", () => say(low + slider.value / 1000 * (high - low)));
    say(threshold);
  });
  for (const id of ["run", "score"]) if (byId(id)) byId(id).addEventListener("change", choose);
  if (panels.length) choose();

  // Gallery: a page of cards at a time; the pictures of a block are read when a card needs one.
  const data = read("findings");
  if (!data) return;
  const { items, perPage, names, maps, colours } = data;
  items.forEach((item, rank) => { item.rank = rank; });
  const blocks = new Map();
  const pictures = (rank) => {
    const number = Math.floor(rank / perPage);
    if (!blocks.has(number)) {
      if (blocks.size > 40) blocks.clear();
      blocks.set(number, read(`pictures-${number}`));
    }
    return blocks.get(number)[rank % perPage];
  };
  const webp = (base64) => {
    const image = new Image();
    image.decoding = "async";
    image.src = `data:image/webp;base64,${base64}`;
    return image;
  };
  const colour = (canvas, strip, tile, clear) => {
    const side = strip.naturalHeight, context = canvas.getContext("2d");
    canvas.width = canvas.height = side;
    context.drawImage(strip, tile * side, 0, side, side, 0, 0, side, side);
    const area = context.getImageData(0, 0, side, side), bytes = area.data;
    for (let i = 0; i < bytes.length; i += 4) {
      const strength = bytes[i];
      for (let c = 0; c < 3; c += 1) bytes[i + c] = colours[3 * strength + c];
      if (clear) bytes[i + 3] = Math.round(255 * Math.sqrt(strength / 255));
    }
    context.putImageData(area, 0, 0);
  };
  const chosenMap = () => byId("map") ? Number(byId("map").value) : 0;
  const card = (item) => {
    const [image, strip] = pictures(item.rank), article = make("article");
    const pair = make("div", strip ? "pair two" : "pair"), plain = make("div", "view");
    const picture = (words) => { const shown = webp(image); shown.alt = words; return shown; };
    const describe = (canvas, title) => {
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `Map of ${title}, ${item.path}`);
    };
    plain.append(image ? picture(`${item.path}, score ${short(item.score)}`) : make("span", "nothing", "no picture"));
    pair.append(plain);
    article.append(pair);
    if (strip) {
      const over = make("div", "view"), heat = make("canvas"), row = make("div", "maps");
      if (item.size[0] && item.size[1]) {
        for (const view of [plain, over]) view.style.aspectRatio = `${item.size[1]} / ${item.size[0]}`;
      }
      if (image) over.append(picture(""));  // the same image again, beneath the map
      over.append(heat);
      pair.append(over);
      row.style.gridTemplateColumns = `repeat(${maps.length}, 1fr)`;
      // A single map is already over the image.
      const small = maps.length < 2 ? [] : maps.map((title) => {
        const own = make("figure"), canvas = make("canvas");
        own.append(canvas, make("figcaption", "", title));
        own.title = title;
        describe(canvas, title);
        row.append(own);
        return canvas;
      });
      if (small.length) article.append(row);
      const loaded = webp(strip);
      loaded.addEventListener("load", () => {
        small.forEach((canvas, tile) => colour(canvas, loaded, tile, false));
        article.redraw = () => {
          colour(heat, loaded, chosenMap(), true);
          describe(heat, `${maps[chosenMap()]} over the image`);
        };
        article.redraw();
      });
    }
    const words = make("div", "words"), first = make("p", "first");
    first.append(make("b", "", short(item.score)));
    if (item.p !== null) first.append(make("span", "", `p = ${short(item.p)}`));
    if (item.flagged) first.append(make("span", "tag flagged", "flagged"));
    if (item.label !== null) {
      const label = item.label ? "abnormal" : "normal";
      first.append(make("span", `tag ${label}`, label));
    }
    words.append(first, make("p", "path", item.path));
    if (item.warnings) words.append(make("p", "doubt", item.warnings));
    if (names.length > 1) {
      const list = make("dl", "scores");
      names.forEach((name, index) => {
        const own = make("div");
        own.append(make("dt", "", name), make("dd", "", short(item.scores[index])));
        list.append(own);
      });
      words.append(list);
    }
    article.append(words);
    return article;
  };

  let chosen = items, page = 0;
  const kept = {
    all: () => true, flagged: (item) => item.flagged === true, warned: (item) => item.warnings !== "",
    abnormal: (item) => item.label === 1, normal: (item) => item.label === 0,
  };
  const tellPaper = () => {
    const lists = ["sort", "order", "show", "map"].filter(byId).map(choice);
    if (byId("search").value) lists.push(`Path holds: ${byId("search").value}`);
    byId("shown-findings").textContent = lists.join(", ");
  };
  const draw = () => {
    tellPaper();
    const pages = Math.max(1, Math.ceil(chosen.length / perPage));
    page = Math.min(Math.max(page, 0), pages - 1);
    byId("cards").replaceChildren(...chosen.slice(page * perPage, (page + 1) * perPage).map(card));
    for (const where of document.querySelectorAll(".where")) {
      where.textContent = `page ${page + 1} of ${pages}, ${chosen.length} finding${chosen.length === 1 ? "" : "s"}`;
    }
    for (const button of document.querySelectorAll(".pager button")) {
      button.disabled = button.dataset.step === "-1" ? page === 0 : page === pages - 1;
    }
  };
  const select = () => {
    const by = byId("sort").value, sign = byId("order").value === "down" ? -1 : 1;
    const wanted = byId("search").value.toLowerCase(), keep = kept[byId("show").value];
    const value = (item) => (by === "-1" ? item.score : item.scores[Number(by)]) ?? -Infinity;
    const compare = by === "path"
      ? (a, b) => sign * (a.path < b.path ? -1 : a.path > b.path ? 1 : 0)
      : (a, b) => sign * (value(a) - value(b)) || a.rank - b.rank;
    chosen = items.filter((item) => keep(item) && item.path.toLowerCase().includes(wanted)).sort(compare);
    page = 0;
    draw();
  };
  let byPath = false;
  byId("sort").addEventListener("change", () => {
    if (byPath === (byId("sort").value === "path")) return;
    byPath = !byPath;
    byId("order").value = byPath ? "up" : "down";  // paths read from a to z, scores from the highest
  });
  for (const id of ["sort", "order", "show"]) byId(id).addEventListener("change", select);
  byId("search").addEventListener("input", select);
  for (const option of byId("show").options) option.disabled = option.value !== "all" && !items.some(kept[option.value]);
  for (const button of document.querySelectorAll(".pager button")) {
    button.addEventListener("click", () => { page += Number(button.dataset.step); draw(); byId("gallery").scrollIntoView(); });
  }
  if (byId("map")) {
    byId("map").addEventListener("change", () => {
      for (const article of byId("cards").children) if (article.redraw) article.redraw();
      tellPaper();
    });
    byId("opacity").addEventListener("input", (event) => {
      document.documentElement.style.setProperty("--opacity", event.target.value / 100);
    });
    const scale = byId("scale").getContext("2d"), area = scale.createImageData(256, 1);
    for (let i = 0; i < 256; i += 1) area.data.set([...colours.slice(3 * i, 3 * i + 3), 255], 4 * i);
    scale.putImageData(area, 0, 0);
  }
  draw();
})();
