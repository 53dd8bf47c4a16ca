//! Each knob has its page, and each page a knob.

use std::fs;
use std::path::Path;

use florin_tune::knobs::Knob;

#[test]
fn every_knob_has_a_page_that_says_what_it_does_when_it_hurts_and_how_to_measure_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    for knob in Knob::ALL {
        let page = folder.join(format!("{knob}.md"));
        let text = fs::read_to_string(&page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
        for heading in ["## What it does", "## When it hurts", "## How to measure"] {
            assert!(text.contains(heading), "{} lacks {heading:?}", page.display());
        }
        assert!(text.contains("florin"), "{} says nothing of florin", page.display());
    }
}

#[test]
fn every_page_is_of_a_knob_and_in_the_list_of_pages() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let list = fs::read_to_string(folder.join("README.md")).unwrap();
    let pages = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let pages = pages.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    for page in pages.filter(|page| page.file_stem().is_some_and(|name| name != "README")) {
        let name = page.file_stem().unwrap().to_str().unwrap();
        assert!(name.parse::<Knob>().is_ok(), "{name}.md is the page of no knob");
        assert!(list.contains(&format!("[{name}]({name}.md)")), "tuning/README.md does not name {name}");
    }
}
