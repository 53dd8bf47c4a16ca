//! Man pages and shell completions, made of the command line itself: `cargo run --example pages -- DIR`.

use std::fs;
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use florin::cli::Cli;

fn main() -> std::io::Result<()> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "target/pages".to_owned());
    write_all(Path::new(&folder))
}

/// Writes `man/` and `completions/` into `folder`.
pub fn write_all(folder: &Path) -> std::io::Result<()> {
    let mut command = Cli::command();
    command.build();
    let (man, completions) = (folder.join("man"), folder.join("completions"));
    fs::create_dir_all(&man)?;
    fs::create_dir_all(&completions)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, "florin", &completions)?;
    }
    write_man(&command, "florin", &man)
}

/// A page for the command, and one for each of its subcommands: florin-tune-plan(1).
fn write_man(command: &Command, name: &str, folder: &Path) -> std::io::Result<()> {
    let page = clap_mangen::Man::new(command.clone()).title(name.to_uppercase());
    let mut text = Vec::new();
    page.render(&mut text)?;
    fs::write(folder.join(format!("{name}.1")), text)?;
    let shown = |command: &&Command| !command.is_hide_set() && command.get_name() != "help";
    for below in command.get_subcommands().filter(shown) {
        write_man(below, &format!("{name}-{}", below.get_name()), folder)?;
    }
    Ok(())
}
