//! Filters by their levels, so that a topic finds those that match it without looking at the others.

use std::collections::BTreeMap;

use tidegate_model::{Subtopic, SubtopicFilter};

/// A set of (filter, value) pairs.
pub(super) struct Trie<V> {
    literal: BTreeMap<Box<str>, Trie<V>>,
    /// Below a `+`.
    single: Option<Box<Trie<V>>>,
    /// Filters that end here with `#`.
    rest: Vec<V>,
    /// Filters that end here.
    here: Vec<V>,
}

impl<V> Default for Trie<V> {
    fn default() -> Self {
        Self { literal: BTreeMap::new(), single: None, rest: Vec::new(), here: Vec::new() }
    }
}

impl<V: PartialEq> Trie<V> {
    pub(super) fn is_empty(&self) -> bool {
        self.literal.is_empty() && self.single.is_none() && self.rest.is_empty() && self.here.is_empty()
    }

    pub(super) fn insert(&mut self, filter: &SubtopicFilter, value: V) {
        let mut node = self;
        for level in filter.levels() {
            match level {
                "#" => return node.rest.push(value),
                "+" => node = node.single.get_or_insert_default(),
                literal => node = node.literal.entry(literal.into()).or_default(),
            }
        }
        node.here.push(value);
    }

    pub(super) fn remove(&mut self, filter: &SubtopicFilter, value: &V) {
        self.remove_below(filter.levels(), value);
    }

    fn remove_below<'a>(&mut self, mut levels: impl Iterator<Item = &'a str>, value: &V) {
        match levels.next() {
            None => self.here.retain(|v| v != value),
            Some("#") => self.rest.retain(|v| v != value),
            Some("+") => {
                if let Some(child) = &mut self.single {
                    child.remove_below(&mut levels as &mut dyn Iterator<Item = &'a str>, value);
                    if child.is_empty() {
                        self.single = None;
                    }
                }
            }
            Some(literal) => {
                if let Some(child) = self.literal.get_mut(literal) {
                    child.remove_below(&mut levels as &mut dyn Iterator<Item = &'a str>, value);
                    if child.is_empty() {
                        self.literal.remove(literal);
                    }
                }
            }
        }
    }

    /// Calls `found` once for each pair whose filter matches.
    pub(super) fn for_each_match(&self, subtopic: &Subtopic, found: &mut dyn FnMut(&V)) {
        let levels: Vec<&str> = subtopic.levels().collect();
        self.matches_below(&levels, found);
    }

    fn matches_below(&self, levels: &[&str], found: &mut dyn FnMut(&V)) {
        self.rest.iter().for_each(&mut *found);
        let Some((level, below)) = levels.split_first() else {
            return self.here.iter().for_each(found);
        };
        if let Some(child) = self.literal.get(*level) {
            child.matches_below(below, found);
        }
        if let Some(child) = &self.single {
            child.matches_below(below, found);
        }
    }

    /// Calls `found` once for each pair.
    pub(super) fn for_each(&self, found: &mut dyn FnMut(&V)) {
        self.rest.iter().chain(&self.here).for_each(&mut *found);
        self.literal.values().for_each(|child| child.for_each(found));
        if let Some(child) = &self.single {
            child.for_each(found);
        }
    }
}
