//! argv to exit code; everything else is in the library.

/// An alert is read on one thread and let go on another, with two dozen small texts: what the system's
/// allocator does then costs more than judging it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    midwatch::cli::run()
}
