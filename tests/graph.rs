//! The picture of a pipeline.
#![allow(clippy::unwrap_used)]

mod common;

use common::Project;

const MANY: &str = "\
version: 1
name: many
stages:
  few:
    matrix: { params.text: [\"a<b\", \"x&y\"] }
    command: { run: \"echo '{params.text}' > {out}/x\", params: { text: \"\" } }
  many:
    needs: { all: \"few[*]\" }
    matrix: { params.n: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15] }
    command: { run: \"echo {params.n} > {out}/x\", params: { n: 0 } }
  absent:
    download: { from: \"file:nothing\", as: files }
  last:
    needs: { all: \"many[*]\", absent: absent }
    command: { run: \"true\" }
";

/// A crude reading of XML: every tag is closed, in its order, and no bare mark is left in the text.
fn is_well_formed(svg: &str) {
    let mut open = Vec::new();
    for part in svg.split('<').skip(1) {
        let (tag, text) = part.split_once('>').unwrap_or_else(|| panic!("an open tag: {part}"));
        assert!(!text.contains('>'), "a bare mark: {text}");
        let bare =
            text.split('&').skip(1).all(|rest| ["amp;", "lt;", "gt;", "quot;"].iter().any(|end| rest.starts_with(end)));
        assert!(bare, "a bare ampersand: {text}");
        match tag.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name.to_owned())),
            None if tag.ends_with('/') => {}
            None => open.push(tag.split_whitespace().next().unwrap().to_owned()),
        }
    }
    assert!(open.is_empty(), "never closed: {open:?}");
}

#[test]
fn states_are_told_by_word_and_many_instances_by_their_number() {
    let project = Project::tiny();
    project.write("many.yaml", MANY);
    let svg = project.neftpipe(&["graph", "many.yaml", "--format", "svg"]).exits(0).stdout;
    is_well_formed(&svg);
    assert!(svg.contains("params.text a&lt;b · run") && svg.contains("params.text x&amp;y · run"), "{svg}");
    assert!(svg.contains(">15 pending<"), "fifteen are a number, not fifteen lines: {svg}");
    assert_eq!(svg.matches("marker-end").count(), 3, "few → many → last, absent → last");
    for count in ["0 cached", "2 run", "15 pending", "2 blocked"] {
        assert!(svg.contains(&format!(">{count}<")), "the legend tells {count}: {svg}");
    }
    assert!(!svg.contains("href") && !svg.contains("@import"), "it needs nothing from elsewhere");
}
