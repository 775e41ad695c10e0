//! The processes that this one has started: ffmpeg, Python programs, contestants of `bench`.

use std::fs;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// Kills every child of this process, and the group that it leads. Without `/proc` nothing is found: the
/// children then end when they notice that their pipes are closed.
pub(super) fn kill() {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    for number in numbers.filter(|number| parent(*number) == Some(std::process::id())) {
        let Some(child) = i32::try_from(number).ok().and_then(Pid::from_raw) else { continue };
        // Either fails if the process leads no group or has ended, which is fine.
        let _ = kill_process_group(child, Signal::KILL);
        let _ = kill_process(child, Signal::KILL);
    }
}

/// The parent of a process. The name in `stat` may hold anything, also spaces and brackets.
fn parent(process: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #[test]
    fn the_parent_of_a_process_is_known() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let found = super::parent(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found, Some(std::process::id()));
    }
}
