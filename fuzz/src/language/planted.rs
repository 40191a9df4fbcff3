//! Edits that take a mending out, for the generator to find: `fuzz/planted.txt`.

/// One edit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it takes out.
    pub name: String,
    /// The judge that has to find it.
    pub oracle: String,
    /// The file, from the root of the project.
    pub file: String,
    /// What stands there, once.
    pub old: String,
    /// What comes in its place.
    pub new: String,
}

impl Entry {
    /// The file's text with the edit made.
    ///
    /// # Errors
    /// What it replaces does not stand there once.
    pub fn edited(&self, text: &str) -> Result<String, String> {
        match text.matches(&self.old).count() {
            1 if !self.old.is_empty() => Ok(text.replacen(&self.old, &self.new, 1)),
            count => Err(format!("the old text is there {count} times in {}", self.file)),
        }
    }
}

/// Entries are blocks: `== NAME`, `oracle: O`, `file: F`, `--- old`, lines, `--- new`, lines, `---`.
#[must_use]
pub fn entries(text: &str) -> Vec<Entry> {
    text.split("\n== ").skip(1).map(entry).collect()
}

fn entry(block: &str) -> Entry {
    let (head, rest) = block.split_once("\n--- old\n").unwrap_or((block, ""));
    let (old, rest) = rest.split_once("\n--- new\n").unwrap_or((rest, ""));
    let new = if rest.starts_with("---") { "" } else { rest.split("\n---").next().unwrap_or_default() };
    let value = |key: &str| {
        head.lines().find_map(|line| line.strip_prefix(key)).map_or_else(String::new, |v| v.trim().to_owned())
    };
    Entry {
        name: head.lines().next().unwrap_or_default().trim().to_owned(),
        oracle: value("oracle:"),
        file: value("file:"),
        old: old.to_owned(),
        new: new.to_owned(),
    }
}
