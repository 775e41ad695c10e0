use std::path::Path;

use super::*;

fn parsed(text: &str) -> Result<Parsed, Mistake> {
    parse(text, &Rules::new(Path::new("/data"), 4))
}

/// The paths and labels of a list without mistakes.
#[track_caller]
fn entries(text: &str) -> Vec<(String, Option<usize>)> {
    let parsed = parsed(text).unwrap();
    assert_eq!(parsed.mistakes, []);
    parsed.entries.into_iter().map(|(_, entry)| (entry.path, entry.label)).collect()
}

fn pairs(wanted: &[(&str, Option<usize>)]) -> Vec<(String, Option<usize>)> {
    wanted.iter().map(|(path, label)| ((*path).to_owned(), *label)).collect()
}

#[test]
fn the_label_follows_the_last_space() {
    let got = entries("a b/c d.mp4 3\r\n\n x.mp4\t0\n");
    assert_eq!(got, pairs(&[("a b/c d.mp4", Some(3)), (" x.mp4", Some(0))]));
}

#[test]
fn labels_may_be_missing_or_unknown() {
    assert_eq!(entries("a\nb c.mp4\n"), pairs(&[("a", None), ("b c.mp4", None)]));
    assert_eq!(entries("a -1\nb 2\n"), pairs(&[("a", None), ("b", Some(2))]));
}

#[test]
fn absolute_paths_inside_of_the_folder_are_made_relative() {
    assert_eq!(
        entries("/data/x/a.mp4 1\nb.mp4 2"),
        pairs(&[("x/a.mp4", Some(1)), ("b.mp4", Some(2))])
    );
}

#[test]
fn paths_and_labels_may_be_separated_by_commas() {
    let wanted = pairs(&[("a b.mp4", Some(1)), ("c,d.mp4", Some(3))]);
    assert_eq!(entries("a b.mp4,1\n\"c,d.mp4\", 3\n"), wanted);
    assert_eq!(entries("label,path\n1,a b.mp4\n3,\"c,d.mp4\"\n"), wanted);
    assert_eq!(entries("path,note\na,x\n"), pairs(&[("a", None)]));
}

#[test]
fn the_csv_of_kinetics_names_clips() {
    let csv = "label,youtube_id,time_start,time_end,split\n\"b, c\",--AbC_1,1,11,val\na,x,70.0,80.0,val\n\
               d,y,0,10,val\ne e,z,0,10,val\n";
    let parsed = parsed(csv).unwrap();
    let got: Vec<_> = parsed.entries.iter().map(|(_, e)| (e.path.as_str(), e.label)).collect();
    let first = [("--AbC_1_000001_000011.mp4", Some(1)), ("x_000070_000080.mp4", Some(0))];
    assert_eq!(got[..2], first);
    let places = ["e e/z_000000_000010.mp4", "e_e/z_000000_000010.mp4"];
    assert_eq!(parsed.entries[3].1.elsewhere, places);
    let unlabelled = "youtube_id,time_start,time_end,split\nx,1,11,test\n";
    assert_eq!(entries(unlabelled), pairs(&[("x_000001_000011.mp4", None)]));
}

#[test]
fn mistakes_are_named_with_their_line_and_kind() {
    let cases = [
        ("a 0\nb", 2, "label missing"),
        ("a 0\nb x", 2, "label not a whole number"),
        ("a 0\nb 4", 2, "label too large"),
        ("a 0\nb -2", 2, "negative label"),
        ("a 0\n/b 0", 2, "path outside of the folder"),
        ("a 0\n../b 0", 2, "path outside of the folder"),
        ("a.mp4 0\nb.mp4 1 2", 2, "several numbers"),
        ("a,0\nb,x", 2, "label not a whole number"),
        ("a,0\nb", 2, "label missing"),
        ("path,label\na,0\n,1", 3, "path missing"),
        ("youtube_id,time_start,time_end\nx,1,2\na/b,1,2", 3, "invalid youtube_id"),
        ("youtube_id,time_start,time_end\nx,1,later", 2, "invalid time"),
    ];
    for (text, line, kind) in cases {
        let mistakes = parsed(text).unwrap().mistakes;
        let got: Vec<_> = mistakes.iter().map(|m| (m.line, m.kind)).collect();
        assert_eq!(got, [(line, kind)], "{text}");
    }
}

#[test]
fn forms_that_are_not_read_are_recognised() {
    for (text, kind) in [
        ("abseiling/x 120 0\nzumba/y 250 3\n", "raw frames"),
        ("{\"x\": 1}", "JSON"),
        ("label,youtube_id,time_start,time_end,split\na,x,1,11,val\n", "classes missing"),
        ("label,youtube_id,time_start\na,x,1\n", "column missing"),
    ] {
        assert_eq!(parsed(text).unwrap_err().kind, kind, "{text}");
    }
}

#[test]
fn a_refusal_counts_all_mistakes_and_names_the_first() {
    let mistakes = parsed("a 0\nb\nc 9\n/d 1\n").unwrap().mistakes;
    let text = in_words(&mistakes);
    let end = "2 more mistakes (line 3: label too large; line 4: path outside of the folder)";
    assert!(text.ends_with(end), "{text}");
}

#[test]
fn a_video_is_the_same_under_every_spelling_and_has_one_label() {
    let repeated = |text: &str| parsed(text).unwrap().repetitions();
    assert_eq!(repeated("a.mp4 1\n./a.mp4 1\na 1\nb/a.mp4 1\n"), [(1, 0), (2, 0)]);
    assert_eq!(repeated("a.mp4 1\na.webm 1\n"), []);
    let two = |text: &str| parsed(text).unwrap().contradiction().map(|m| (m.line, m.text));
    assert_eq!(two("a.mp4 1\n\na -1\na 1\n"), None);
    let (line, text) = two("a.mp4 1\n\n./a 0\n").unwrap();
    assert_eq!(
        (line, text.as_str()),
        (3, "`a` has the label 0 here and 1 in line 1; a video has one label")
    );
}

#[test]
fn a_row_of_kinetics_without_a_class_is_a_mistake() {
    let text = "label,youtube_id,time_start,time_end,split\n\
                a,aaaaaaaaaaa,0,10,val\n,bbbbbbbbbbb,0,10,val\n";
    let mistake = parsed(text).unwrap_err();
    assert!(in_words(&[mistake]).contains("has no class"));
}

#[test]
fn a_file_is_found_without_its_extension_and_below_its_class() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("a class")).unwrap();
    for name in ["x", "y.mp4", "a class/z.mp4"] {
        std::fs::write(at(name), "").unwrap();
    }
    let entry = |path: &str| Entry { path: path.to_owned(), ..Entry::default() };
    assert_eq!(file_of(folder.path(), &entry("x")), Some(at("x")));
    assert_eq!(file_of(folder.path(), &entry("y")), Some(at("y.mp4")));
    let class = Entry { elsewhere: vec!["a class/z.mp4".to_owned()], ..entry("z.mp4") };
    assert_eq!(file_of(folder.path(), &class), Some(at("a class/z.mp4")));
    assert_eq!(file_of(folder.path(), &entry("a class")), None);
}
