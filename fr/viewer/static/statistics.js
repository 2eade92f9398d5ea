// The statistics of a token: names, units, and which end is worth a look.

import { plain } from "./dom.js";

const STATISTICS = {
  __proto__: null,
  entropy: { title: "entropy", unit: "nats", meaning: "−Σ p log p" },
  demotion: {
    title: "demotion J",
    unit: "nats",
    meaning: "how far the specialist departs from the ancestor",
  },
  logit_var: { title: "logit variance V", meaning: "of the 100 largest logits" },
  margin: {
    title: "margin",
    low: true,
    meaning: "p of the likeliest token less p of the second",
  },
  top20_confidence: {
    title: "confidence",
    unit: "nats",
    low: true,
    meaning: "minus the mean of the 20 largest log-probs",
  },
  self_certainty: {
    title: "self-certainty",
    unit: "nats",
    low: true,
    meaning: "KL(uniform ‖ p) + log V",
  },
  logp: {
    title: "log-prob",
    unit: "nats",
    low: true,
    meaning: "of the token at temperature 1",
  },
  sample_logp: {
    title: "log-prob as drawn",
    unit: "nats",
    low: true,
    meaning: "under the distribution that was drawn from",
  },
  kl: { title: "KL", unit: "nats", meaning: "KL(specialist ‖ ancestor)" },
  varentropy: { title: "varentropy", unit: "nats²", meaning: "variance of −log p" },
  entropy_tau: {
    title: "entropy at τ",
    unit: "nats",
    meaning: "at the temperature of the diagnosis",
  },
  delta_path: {
    title: "Δ path",
    unit: "nats",
    meaning: "log p of the specialist less log p of the ancestor",
  },
  g_cov: {
    title: "g cov",
    unit: "nats",
    meaning:
      "log of the mass on the ancestor's 20 likeliest tokens, ancestor over specialist",
  },
  z_path: { title: "Z path", meaning: "Δ path in standard deviations" },
  path_mean: { title: "path mean", unit: "nats", meaning: "mean of the log-ratio" },
  path_sd: { title: "path s.d.", unit: "nats", meaning: "its standard deviation" },
};
export const LEVELS = 9;
const EDGE = 0.02; // share of the tokens beyond either end of the scale

const VALUE = "value:"; // and an operator: its V of the atlas

/** The statistics that some attempts may have. */
export function namesOf(traces) {
  const operators = new Set(traces.flatMap((trace) => trace.values));
  return [...Object.keys(STATISTICS), ...[...operators].map((name) => VALUE + name)];
}

/** What is known of a statistic; undefined for a name that is none. */
export function about(name) {
  if (!name.startsWith(VALUE) || name === VALUE) return STATISTICS[name];
  const operator = plain(name.slice(VALUE.length));
  return {
    title: `V of ${operator}`,
    unit: "share right",
    low: true,
    meaning: `branches with ${operator} from the last cut of the atlas`,
  };
}

/** The title of a statistic with its unit. */
export function titled(name) {
  const { title, unit = "" } = about(name);
  return unit ? `${title}, ${unit}` : title;
}

/** The ends of the scale of some lists of values, outliers left out; null without one. */
export function scaleOf(name, lists) {
  const known = lists.flat().filter((v) => v !== null && v !== undefined);
  if (!known.length) return null;
  known.sort((a, b) => a - b);
  const at = (share) => known[Math.round(share * (known.length - 1))];
  const [least, most] = [at(EDGE), at(1 - EDGE)];
  const low = Boolean(about(name).low);
  return { least, most, low };
}

/** The shade of a value, 0 to LEVELS − 1; the last is worth the most attention. */
export function levelOf(value, scale) {
  if (value === null || value === undefined || !scale || scale.most <= scale.least)
    return 0;
  const share = Math.min(
    1,
    Math.max(0, (value - scale.least) / (scale.most - scale.least)),
  );
  return Math.round((scale.low ? 1 - share : share) * (LEVELS - 1));
}

/** Grades with a sign, so that no colour is needed to tell them. */
export const GRADES = {
  __proto__: null,
  right: { sign: "✓", title: "right" },
  wrong: { sign: "✗", title: "wrong" },
  unparsed: { sign: "?", title: "no answer found" },
  grader_error: { sign: "!", title: "the grader failed" },
};
export const LABELS = {
  __proto__: null,
  steerable: "steerable-hard",
  resample: "resample",
  beyond: "beyond reach",
};
