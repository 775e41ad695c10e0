//! What Linux tells about another process of this user. Elsewhere, every number is missing.

use std::fs::read_to_string;

/// The number of page faults of a process so far, minor and major.
pub fn page_faults(id: u32) -> Option<u64> {
    faults_in(&read_to_string(format!("/proc/{id}/stat")).ok()?)
}

/// The share of the anonymous memory of a process that is in huge pages, 0 to 1.
pub fn huge_pages(id: u32) -> Option<f64> {
    share_in(&read_to_string(format!("/proc/{id}/smaps_rollup")).ok()?)
}

/// The faults in `/proc/PID/stat`. The name of the program, in parentheses, may hold spaces.
fn faults_in(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let [minor, major] = [7, 9].map(|at| fields.get(at)?.parse::<u64>().ok());
    Some(minor? + major?)
}

/// The share in `/proc/PID/smaps_rollup`.
fn share_in(smaps: &str) -> Option<f64> {
    let kib = |name: &str| {
        let line = smaps.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<f64>().ok()
    };
    let (huge, all) = (kib("AnonHugePages:")?, kib("Anonymous:")?);
    (all > 0.0).then(|| (huge / all).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_linux_are_read() {
        let stat = "42 (a (b) c) S 1 42 42 0 -1 4194304 1500 7 3 0 10 2";
        assert_eq!(faults_in(stat), Some(1503));
        assert_eq!((faults_in("42 (a) S 1"), faults_in("")), (None, None));
        let smaps = "00-ff ---p\nRss: 9 kB\nAnonymous:      4096 kB\nAnonHugePages:    2048 kB\n";
        assert_eq!(share_in(smaps), Some(0.5));
        assert_eq!(share_in("Anonymous: 0 kB\nAnonHugePages: 0 kB\n"), None);
        if cfg!(target_os = "linux") {
            assert!(page_faults(std::process::id()).unwrap() > 0);
            assert!((0.0..=1.0).contains(&huge_pages(std::process::id()).unwrap()));
        }
    }
}
