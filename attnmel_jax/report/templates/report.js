'use strict';

// The attention gallery. All text goes into the page as text, never as markup.
(() => {
  const data = JSON.parse(document.getElementById('data').textContent);
  const get = (id) => document.getElementById(id);
  const canvas = get('heat'), side = canvas.width;

  const fill = (select, names, chosen) => {
    select.replaceChildren(...names.map(([value, name, count]) => {
      const option = new Option(name, value);
      option.disabled = count === 0;
      return option;
    }));
    const values = names.filter(([, , count]) => count !== 0).map(([value]) => value);
    select.value = values.includes(chosen) ? chosen : values[0];
  };

  const set = () => data.sets[get('set').value];
  const system = () => set().systems[get('system').value];
  const map = () => system().maps[get('map').value];
  const numbered = (names) => names.map((name, i) => [String(i), name]);

  // The images of a kind by the system that is chosen.
  const images = (kind) => set().images.map((_, i) => i)
      .filter((i) => kind.codes.includes(system().codes[i]));

  // Bilinear with half-pixel centres and clamped edges, as the scores have it.
  const enlarge = (cells, height, width) => {
    const places = (length) => Array.from({length: side}, (_, i) => {
      const centre = (i + 0.5) * length / side - 0.5;
      const at = Math.min(Math.max(centre, 0), length - 1), low = Math.floor(at);
      return [low, Math.min(low + 1, length - 1), at - low];
    });
    const columns = places(width), values = new Float32Array(side * side);
    places(height).forEach(([top, bottom, down], y) => {
      columns.forEach(([left, right, across], x) => {
        const upper = cells[top * width + left] * (1 - across) + cells[top * width + right] * across;
        const lower = cells[bottom * width + left] * (1 - across) + cells[bottom * width + right] * across;
        values[y * side + x] = upper * (1 - down) + lower * down;
      });
    });
    return values;
  };

  const paint = (context, values) => {
    let low = Infinity, high = -Infinity;
    for (const value of values) {
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
    const picture = context.createImageData(context.canvas.width, context.canvas.height);
    values.forEach((value, i) => {
      // A constant map marks everything.
      const share = high > low ? (value - low) / (high - low) : 1;
      picture.data.set([...data.shades[Math.round(255 * share)], 255], 4 * i);
    });
    context.putImageData(picture, 0, 0);
  };

  const element = (name, text, attributes) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    return Object.assign(made, attributes);
  };

  const percent = (share) => `${(100 * share).toFixed(1)} %`;

  const say = (i) => {
    const {classes, kinds, images: all} = set(), own = system(), image = all[i];
    const found = kinds.slice(2).find((kind) => kind.codes.includes(own.codes[i]));
    const score = map().jaccard[i];
    const rows = [
      ['image', image.id], ['true class', classes[image.label]],
      ['decision', classes[own.decided[i]] + (found ? ` (${found.title})` : '')],
    ];
    if (own.threshold !== null) rows.push(['threshold', `${percent(own.threshold)} ${classes[1]}`]);
    rows.push(['map', `${map().name} of ${own.name}, ${own.which}`]);
    rows.push(['Jaccard index', score === null ? 'none' : `${score.toFixed(3)} with the lesion, cut at 0.5`]);
    if (!image.annotated) rows.push(['lesion', 'not annotated']);
    else if (!image.outline) rows.push(['lesion', 'annotated as absent']);
    const list = element('dl');
    rows.forEach(([name, value]) => list.append(element('dt', name), element('dd', value)));
    const table = element('table'), body = element('tbody');
    table.append(element('caption', 'Predicted probabilities'), body);
    classes.forEach((name, k) => {
      const row = element('tr');
      row.append(element('th', name, {scope: 'row'}), element('td', percent(own.probabilities[i][k])));
      body.append(row);
    });
    get('said').replaceChildren(list, table);
  };

  const show = () => {
    const i = Number(get('image').value), image = set().images[i], own = map();
    get('photograph').src = image.photo;
    get('photograph').alt = `Photograph ${image.id}`;
    const cells = Uint8Array.from(atob(own.values[i]), (letter) => letter.charCodeAt(0));
    paint(canvas.getContext('2d'), enlarge(cells, own.height, own.width));
    canvas.setAttribute('aria-label', `Heat map ${own.name} of ${system().name}`);
    get('lesion').setAttribute('viewBox', `0 0 ${2 * set().side} ${2 * set().side}`);
    get('lesion').querySelectorAll('path').forEach((path) => path.setAttribute('d', image.outline));
    say(i);
    const options = [...get('image').options], at = get('image').selectedIndex;
    get('previous').disabled = at <= 0;
    get('next').disabled = at >= options.length - 1;
    blend();
  };

  const blend = () => {
    const share = get('slide').value;
    canvas.style.opacity = share / 100;
    get('slide').setAttribute('aria-valuetext', `${share} % heat map`);
    get('lesion').classList.toggle('off', !get('outlined').checked);
    get('lesion').toggleAttribute('hidden', !get('outlined').checked);
  };

  const listImages = () => {
    const kind = set().kinds[get('kind').value];
    fill(get('image'), images(kind).map((i) => {
      const image = set().images[i];
      return [String(i), `${image.id}, ${set().classes[image.label]}`];
    }), get('image').value);
    show();
  };

  const listKinds = () => {
    fill(get('kind'), set().kinds.map((kind, i) => {
      const count = images(kind).length;
      return [String(i), `${kind.title} (${count})`, count];
    }), get('kind').value);
    listImages();
  };

  const listMaps = () => {
    // The same map of another system, where it has one.
    const before = get('map').selectedOptions[0]?.text;
    fill(get('map'), numbered(system().maps.map((one) => one.name)));
    const same = system().maps.findIndex((one) => one.name === before);
    get('map').value = String(same < 0 ? system().maps.length - 1 : same);
    listKinds();
  };

  const listSystems = () => {
    const before = get('system').selectedOptions[0]?.text;
    const names = set().systems.map((one) => one.name);
    fill(get('system'), numbered(names), String(names.indexOf(before)));
    listMaps();
  };

  const step = (by) => {
    get('image').selectedIndex += by;
    show();
  };

  get('set').addEventListener('change', listSystems);
  get('system').addEventListener('change', listMaps);
  get('map').addEventListener('change', show);
  get('kind').addEventListener('change', listImages);
  get('image').addEventListener('change', show);
  get('previous').addEventListener('click', () => step(-1));
  get('next').addEventListener('click', () => step(1));
  get('slide').addEventListener('input', blend);
  get('outlined').addEventListener('change', blend);
  document.querySelector('.controls').addEventListener('submit', (event) => event.preventDefault());

  paint(get('scale').getContext('2d'), Float32Array.from({length: 256}, (_, i) => i));
  fill(get('set'), numbered(data.sets.map((one) => one.title)));
  get('set').parentElement.hidden = data.sets.length === 1;
  listSystems();
  get('viewer').hidden = false;
})();
