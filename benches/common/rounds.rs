//! Rounds, medians, and the lines that a script reads.

/// A line for scripts.
pub fn figure(name: &str, value: f64, unit: &str) {
    println!("figure {name} {value:.3} {unit}");
}

/// The middle one; the upper one of two.
pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The same round of measurement for each of several variants, again and again: what disturbs the
/// machine disturbs them all.
pub struct Rounds {
    names: Vec<&'static str>,
    /// By variant, then by round.
    values: Vec<Vec<f64>>,
}

impl Rounds {
    pub fn new(names: &[&'static str]) -> Self {
        Self {
            names: names.to_vec(),
            values: vec![Vec::new(); names.len()],
        }
    }

    /// Which variant is the `turn`th of a round. Each is first equally often.
    pub fn order(&self, round: usize) -> impl Iterator<Item = usize> + use<> {
        let count = self.names.len();
        (0..count).map(move |turn| (round + turn) % count)
    }

    pub fn add(&mut self, variant: usize, value: f64) {
        self.values[variant].push(value);
    }

    /// The median over the rounds.
    pub fn value(&self, variant: usize) -> f64 {
        median(&self.values[variant])
    }

    /// The median of the ratios to another variant in the same round.
    pub fn ratio(&self, variant: usize, to: usize) -> f64 {
        let pairs = self.values[variant].iter().zip(&self.values[to]);
        median(&pairs.map(|(value, base)| value / base).collect::<Vec<_>>())
    }

    /// All variants in a table, with their ratios to the first.
    pub fn print(&self, unit: &str) {
        for (variant, name) in self.names.iter().enumerate() {
            let value = self.value(variant);
            let ratio = self.ratio(variant, 0);
            println!("  {name:<44} {value:>10.2} {unit}   {ratio:>5.2}x");
        }
    }
}
