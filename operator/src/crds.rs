//! The definitions of the resources, as YAML.

use std::process::ExitCode;

use tidegate_daemon::{Exit, program};
use tidegate_runtime::{Applied, apply_definitions};
use tokio::runtime::Runtime;

use crate::NAME;

/// All of them, one document each.
pub(crate) fn yaml() -> String {
    let documents = tidegate_api::crds().map(|crd| {
        let document = serde_yaml::to_string(&crd).expect("a definition is YAML");
        format!("---\n{document}")
    });
    documents.concat()
}

/// Brings them to the API server.
pub(crate) fn apply() -> Result<ExitCode, ExitCode> {
    let failed = |error: anyhow::Error, exit: Exit| program::fail(NAME, exit, &error);
    let runtime = Runtime::new().map_err(|error| failed(error.into(), Exit::Bug))?;
    let applied = runtime.block_on(apply_definitions());
    let applied = applied.map_err(|error| failed(error.into(), Exit::Unavailable))?;
    let told = applied.into_iter().map(|(name, applied)| match applied {
        Applied::AsBuilt => format!("{name} is in force\n"),
        Applied::Newer => format!("{name} is newer than this program and stays as it is\n"),
    });
    Ok(program::show(&told.collect::<String>()))
}

#[cfg(test)]
mod tests {
    use expect_test::expect_file;

    /// Largest definition: kubectl keeps what was applied in an annotation of at most 256 KiB.
    const BYTES_MAX: usize = 256 * 1_024;

    #[test]
    fn the_committed_definitions_are_those_of_the_code() {
        for crd in tidegate_api::crds() {
            let plural = &crd.spec.names.plural;
            let yaml = serde_yaml::to_string(&crd).unwrap();
            let path = format!("{}/../crds/{plural}.yaml", env!("CARGO_MANIFEST_DIR"));
            let header =
                "# Made by `operator crds`: change operator/api instead, then run its tests with UPDATE_EXPECT=1.\n";
            expect_file![path].assert_eq(&(header.to_owned() + &yaml));
        }
    }

    #[test]
    fn each_definition_fits_where_kubectl_keeps_it() {
        for crd in tidegate_api::crds() {
            let bytes = serde_yaml::to_string(&crd).unwrap().len();
            assert!(bytes < BYTES_MAX, "{} has {bytes} bytes", crd.spec.names.kind);
        }
    }
}
