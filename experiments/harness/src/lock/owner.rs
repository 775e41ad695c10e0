//! Who holds the lock of a folder, and whether that process can still be alive.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Name of the machine.
    pub host: String,
    /// Number of the process there.
    pub process: u32,
    /// When it took the lock, in UTC.
    pub since: String,
    /// Identifies a start of the system, and so its kernel.
    pub boot: String,
    /// The job of Slurm, and how often Slurm has started it again.
    pub job: Option<(String, u32)>,
}

impl Owner {
    /// This process.
    pub fn here() -> Owner {
        let line = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let set = |name: &str| std::env::var(name).ok();
        let host = line("/proc/sys/kernel/hostname");
        let job = set("SLURM_JOB_ID").map(|job| {
            let restarts = set("SLURM_RESTART_COUNT").and_then(|count| count.parse().ok());
            (job, restarts.unwrap_or(0))
        });
        Owner {
            host: if host.is_empty() { set("HOSTNAME").unwrap_or_default() } else { host },
            process: std::process::id(),
            since: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string(),
            boot: line("/proc/sys/kernel/random/boot_id"),
            job,
        }
    }

    /// Whether the process of another owner is gone, as far as this process can know. `locked`: the kernel
    /// has given this process the lock of the file.
    pub fn knows_gone(&self, other: &Owner, locked: bool) -> Option<bool> {
        if self.boot == other.boot && !self.boot.is_empty() {
            if locked {
                return Some(true);
            }
            if self.host == other.host {
                return Some(!Path::new(&format!("/proc/{}", other.process)).exists());
            }
        }
        match (&self.job, &other.job) {
            // Slurm starts a job again only after its processes have ended.
            (Some((job, count)), Some((same, before))) if job == same && before < count => {
                Some(true)
            }
            _ => None,
        }
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Owner { host, process, since, .. } = self;
        let since = since.split('.').next().unwrap_or(since);
        write!(f, "process {process} on host {host} (since {since} UTC)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_slurm_started_again_need_not_wait() {
        let job = |host: &str, boot: &str, count| Owner {
            job: Some(("7".to_owned(), count)),
            host: host.to_owned(),
            boot: boot.to_owned(),
            ..Owner::here()
        };
        let (again, before) = (job("b", "2", 1), job("a", "1", 0));
        assert_eq!(again.knows_gone(&before, false), Some(true));
        assert_eq!(before.knows_gone(&again, false), None);
        assert_eq!(again.knows_gone(&again, true), Some(true));
    }
}
