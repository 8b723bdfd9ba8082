//! argv to exit code; everything else is in the library.

fn main() -> std::process::ExitCode {
    midwatch::cli::run()
}
