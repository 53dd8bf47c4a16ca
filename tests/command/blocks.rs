//! A page's commands: fenced blocks, by what they are, and under which heading.

/// A fenced block.
pub struct Block {
    /// The heading of the second level above it.
    pub section: String,
    /// What it is: `sh`, `sql`, ….
    pub kind: String,
    pub text: String,
}

/// The fenced blocks of a page, in their order.
pub fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let (mut open, mut section) = (None, String::new());
    for line in page.lines() {
        match (line.trim_start().strip_prefix("```"), open) {
            (Some(kind), None) => {
                open = Some(line.len() - line.trim_start().len());
                blocks.push(Block { section: section.clone(), kind: kind.to_owned(), text: String::new() });
            }
            (Some(_), Some(_)) => open = None,
            (None, Some(indent)) => {
                let text = &mut blocks.last_mut().expect("one is open").text;
                text.push_str(line.get(indent..).unwrap_or_default());
                text.push('\n');
            }
            (None, None) => {
                if let Some(heading) = line.strip_prefix("## ") {
                    heading.clone_into(&mut section);
                }
            }
        }
    }
    assert_eq!(open, None, "every block ends");
    blocks
}
