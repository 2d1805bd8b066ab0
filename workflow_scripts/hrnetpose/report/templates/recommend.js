// The rule of report/recommend.py, for limits that are changed on the page.
"use strict";

const MISSING = "\u2013", MINUS = "\u2212", MOST_DIGITS = 9, MOST_NAMES = 3;

function number(value, digits = 4, sign = false) {
  if (value === null || value === undefined) return MISSING;
  const text = value.toFixed(digits);
  return (sign && !text.startsWith("-") ? "+" : "") + text.replace("-", MINUS);
}

function plain(value) {
  return number(value, 6).replace(/0+$/, "").replace(/\.$/, "");
}

function listNames(names) {
  const isLong = names.length > MOST_NAMES + 1, shown = isLong ? names.slice(0, MOST_NAMES) : [...names];
  if (isLong) shown.push(`${names.length - MOST_NAMES} others`);
  if (shown.length < 2) return shown.join("");
  return `${shown.slice(0, -1).join(", ")} and ${shown[shown.length - 1]}`;
}

function findViolations(one, common, someTrained) {
  const limits = {...common, ...(one.limits ?? {})}, found = [], missing = one.missing ?? [];
  const add = (text, excess = null) => found.push({text, excess});
  const require = (value, limit, sign, unknown, say, digits) => {
    if ((limit ?? null) === null) return;
    if ((value ?? null) === null) return add(unknown);
    const excess = sign * (value - limit);
    if (excess > 0) {
      while (digits < MOST_DIGITS && !Number(excess.toFixed(digits))) digits += 1;
      add(say(number(value, digits), number(excess, digits), plain(limit)), excess / (limit || 1));
    }
  };
  if (missing.length) add(`its ${listNames(missing)} could not be made`);
  const timed = (one.fps ?? null) !== null;
  if (timed && (one.invalid ?? null) !== null) add(`its speed is INVALID (${one.invalid})`);
  if (one.trained === false) {
    if (someTrained) add("its model is untrained and has no accuracy");
  } else if (!missing.includes("accuracy")) {
    const loss = (one.change ?? null) === null ? null : -one.change;
    require(one.ap, limits.ap, -1, "its AP is not known",
      (value, by, limit) => `AP ${value}, ${by} below ${limit}`, 4);
    require(loss, limits.ap_drop, 1, "its change of AP is not known, for want of a reference",
      (value, by, limit) => `loses ${value} AP, ${by} more than ${limit}`, 4);
  }
  if (!missing.includes("parity")) {
    require(one.shift, limits.keypoint_shift_px, 1, "its shift of keypoints is not known",
      (value, by, limit) => `keypoints move by ${value} px (p99), ${by} more than ${limit}`, 2);
  }
  if (timed) {
    require(one.fps, limits.fps, -1, "",
      (value, by, limit) => `${value} images/s, ${by} fewer than ${limit}`, 1);
    require(one.p99, limits.latency_p99_ms, 1, "",
      (value, by, limit) => `p99 ${value} ms, ${by} ms more than ${limit}`, 2);
  }
  return found;
}

function areAlike(one, other) {
  if (one.model !== other.model || !one.interval || !other.interval) return false;
  return one.interval[0] <= other.interval[1] && other.interval[0] <= one.interval[1];
}

function areEquallyFast(one, other) {
  const range = ({fps, spread}) => [(fps ?? 0) * (1 - (spread ?? 0)), (fps ?? 0) * (1 + (spread ?? 0))];
  const [low, high] = range(one), [otherLow, otherHigh] = range(other);
  return low <= otherHigh && otherLow <= high;
}

// The first of the largest, as Python's max.
function best(list, key) {
  return list.reduce((found, one) => (found === null || key(one) > key(found) ? one : found), null);
}

function take(within) {
  const fastest = best(within, (one) => one.fps ?? 0);
  const rivals = within.filter((one) => one.interval && fastest.interval
    && one.model === fastest.model && areEquallyFast(one, fastest)
    && one.interval[0] > fastest.interval[1]);
  return best(rivals, (one) => one.change ?? 0) ?? fastest;
}

function isNearer(one, other) {
  const distance = (violations) => {
    const counted = violations.filter(({excess}) => excess !== null);
    const sum = counted.reduce((total, {excess}) => total + excess, 0);
    return [violations.length - counted.length, violations.length, sum];
  };
  const [a, b] = [distance(one), distance(other)];
  const place = a.findIndex((value, index) => value !== b[index]);
  return place >= 0 && a[place] < b[place];
}

function say(chosen, within, alike, limits) {
  const fastest = best(within, (one) => one.fps ?? 0);
  let rank = `as fast as ${fastest.name} and more accurate`;
  if (chosen === fastest) {
    rank = within.length > 1 ? `the fastest of ${within.length} within the limits`
      : "the only one within the limits";
  }
  let text = `Ship ${chosen.name}: ${rank}, with ${number(chosen.fps, 1)} images/s and a p99 of `
    + `${number(chosen.p99, 2)} ms`;
  if ((chosen.ap ?? null) === null) return `${text}; its accuracy was not measured.`;
  text += `; AP ${number(chosen.ap)}`;
  const interval = chosen.interval;
  if (interval && (interval[0] !== 0 || interval[1] !== 0)) {
    const ends = interval.map((end) => number(end, 4, true)).join(" to ");
    text += `, a change of ${number(chosen.change, 4, true)} (95 %: ${ends})`;
  }
  if (alike.length) {
    const asFast = within.filter((one) => areEquallyFast(one, chosen)).map((one) => one.name);
    const same = alike.filter((name) => asFast.includes(name));
    if (same.length === alike.length) {
      text += `; neither by accuracy nor by speed can it be told apart from ${listNames(same)}`;
    } else {
      text += `; by accuracy it cannot be told apart from ${listNames(alike)}`;
      if (same.length) text += `, nor by speed from ${listNames(same)}`;
      else if (chosen === fastest) text += " and is the faster";
    }
  }
  const allowed = "ap_drop" in (chosen.limits ?? {}) ? chosen.limits.ap_drop : limits.ap_drop;
  if ((allowed ?? null) !== null && interval && -interval[0] > allowed) {
    text += `; the interval reaches beyond the loss of ${plain(allowed)} that is allowed`;
  }
  return `${text}.`;
}

function choose(models, candidates, limits) {
  const someTrained = candidates.some((one) => one.trained !== false);
  const found = candidates.map((one) => findViolations(one, limits, someTrained));
  const outside = candidates.flatMap((one, index) => (found[index].length
    ? [{variant: one.name, reasons: found[index].map(({text}) => text)}] : []));
  const within = candidates.filter((_, index) => !found[index].length);
  if (!within.length) {
    let nearest = 0;
    found.forEach((violations, index) => {
      if (isNearer(violations, found[nearest])) nearest = index;
    });
    const {name} = candidates[nearest], why = found[nearest].map(({text}) => text).join("; ");
    const text = `No variant is within the limits. The nearest is ${name}: ${why}.`;
    return {models, variant: null, text, nearest: name, alike: [], outside};
  }
  const chosen = take(within);
  const alike = within.filter((one) => one !== chosen && areAlike(one, chosen))
    .map((one) => one.name);
  return {models, variant: chosen.name, text: say(chosen, within, alike, limits), nearest: null,
    alike, outside};
}

function recommend(candidates, limits) {
  const models = [...new Set(candidates.map((one) => one.model))];
  const labels = new Set(candidates.map((one) => one.label ?? null).filter((one) => one !== null));
  if ((limits.ap ?? null) !== null && labels.size === 1) {
    return models.length ? [choose(models, candidates, limits)] : [];
  }
  return models.map((model) => choose([model], candidates.filter((one) => one.model === model), limits));
}
