//! The committed corpus of the fuzz targets, through the same functions as the fuzzer: what it once found
//! stays found, without the fuzzer.

use std::path::Path;

#[path = "../../fuzz/bodies.rs"]
pub(crate) mod bodies;

#[test]
fn the_corpus_holds() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, body) in bodies::ALL {
        let files = std::fs::read_dir(root.join(name)).expect("each target has a corpus");
        let mut inputs = 0;
        for file in files {
            let path = file.expect("a readable folder").path();
            let bytes = std::fs::read(&path).expect("a readable file");
            let held = std::panic::catch_unwind(|| body(&bytes));
            assert!(held.is_ok(), "{} breaks {name}", path.display());
            inputs += 1;
        }
        assert!(inputs >= 5, "{name} has a corpus of {inputs}");
    }
}
