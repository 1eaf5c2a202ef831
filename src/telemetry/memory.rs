//! How much memory this process uses and may use: what is allocated, which an allocator knows, and what is
//! resident, which the system knows and which is more, for an allocator keeps pages for later. The most that may be used is that of the machine or of the process's control groups.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Pages of `/proc/self/statm` are this large on every system that we are built for; where they are larger, the
/// part outside the heap is underestimated, which is small.
const PAGE_BYTES: u64 = 4096;

static ALLOCATED: OnceLock<fn() -> usize> = OnceLock::new();

/// Tells once per process how to ask the allocator for the bytes that are allocated. Without it what is
/// resident counts as used.
pub fn count_allocated_by(allocated: fn() -> usize) {
    let _ = ALLOCATED.set(allocated);
}

/// Bytes that are allocated, where the allocator tells.
pub(super) fn allocated() -> Option<usize> {
    ALLOCATED.get().map(|allocated| allocated())
}

/// What can be known of the memory of a process.
pub trait Memory: Send + Sync {
    /// Bytes that are allocated. Cheap: asked for with every request.
    fn allocated(&self) -> u64;

    /// Bytes that are resident. Reads from the system, which takes some microseconds.
    fn resident(&self) -> Resident;

    /// Bytes that the process may use. Reads from the system.
    fn most(&self) -> u64;
}

/// Bytes that are in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Resident {
    /// Of the heap and stacks.
    pub anonymous: u64,
    /// Of files, mostly the program itself.
    pub of_files: u64,
}

/// The memory of this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessMemory;

impl Memory for ProcessMemory {
    fn allocated(&self) -> u64 {
        allocated().map_or_else(|| self.resident().anonymous, |bytes| bytes as u64)
    }

    fn resident(&self) -> Resident {
        fs::read_to_string("/proc/self/statm").ok().and_then(|text| pages(&text)).unwrap_or_default()
    }

    fn most(&self) -> u64 {
        most_of(Path::new("/"))
    }
}

/// Of `/proc/self/statm` the second and the third number: pages that are resident, and those of files among them.
fn pages(statm: &str) -> Option<Resident> {
    let mut pages = statm.split_ascii_whitespace().skip(1).map(|pages| pages.parse::<u64>().ok());
    let (resident, of_files) = (pages.next()?? * PAGE_BYTES, pages.next()?? * PAGE_BYTES);
    Some(Resident { anonymous: resident.saturating_sub(of_files), of_files })
}

/// The least of what the machine has and what the control groups of this process allow, of both versions. A group
/// is bounded by those above it. Within a container the path of a group may be that outside of it; what is
/// mounted at the top is then the container's own.
fn most_of(root: &Path) -> u64 {
    let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
    let machine = machine(&read(root.join("proc/meminfo"))).unwrap_or(u64::MAX);
    let groups = read(root.join("proc/self/cgroup"));
    let limits = groups.lines().filter_map(|line| {
        // `number:controllers:path`; version 2 has no controllers.
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?.trim_start_matches('/'));
        match controllers {
            "" => Some(least(&root.join("sys/fs/cgroup"), path, "memory.max")),
            _ if controllers.split(',').any(|c| c == "memory") => {
                Some(least(&root.join("sys/fs/cgroup/memory"), path, "memory.limit_in_bytes"))
            }
            _ => None,
        }
    });
    limits.flatten().fold(machine, u64::min)
}

/// The least limit of a group and of those above it. `max` is none.
fn least(top: &Path, path: &str, file: &str) -> Option<u64> {
    let group = top.join(path);
    let groups = group.ancestors().take_while(|group| group.starts_with(top));
    groups.filter_map(|group| fs::read_to_string(group.join(file)).ok()?.trim().parse().ok()).min()
}

fn machine(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.split_ascii_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_kernels_words_are_read() {
        let expected = Resident { anonymous: 1068 * 4096, of_files: 504 * 4096 };
        assert_eq!(pages("65882 1572 504 89 0 2839 0"), Some(expected));
        assert_eq!(pages(""), None);
        assert_eq!(machine("MemTotal:       24574964 kB\nMemFree: 1 kB\n"), Some(24_574_964 * 1024));
        assert!(ProcessMemory.most() > 0 && ProcessMemory.allocated() > 0);
        assert!(ProcessMemory.resident().of_files > 0);
    }

    /// Files of a machine of 8 GiB, and the limit that is found.
    fn check(what: &str, files: &[(&str, &str)], expected: u64) {
        let root = tempfile::tempdir().unwrap();
        let all = files.iter().copied().chain([("proc/meminfo", "MemTotal: 8388608 kB\n")]);
        for (path, text) in all {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        assert_eq!(most_of(root.path()) / MIB, expected, "{what}");
    }

    #[test]
    fn control_groups_of_both_versions_bound_it() {
        check("no groups", &[], 8192);
        let v2 = ("proc/self/cgroup", "0::/kubepods/pod1/c1\n");
        let pod = ("sys/fs/cgroup/kubepods/pod1/memory.max", "536870912\n");
        let own = "sys/fs/cgroup/kubepods/pod1/c1/memory.max";
        check("v2, of the pod above", &[v2, (own, "max\n"), pod], 512);
        check("v2, its own is smaller", &[v2, (own, "268435456\n"), pod], 256);
        check("v2, no limit", &[v2, (own, "max\n")], 8192);
        check("v2, larger than the machine", &[v2, (own, "99999999999999\n")], 8192);
        let inside = ("proc/self/cgroup", "0::/\n");
        check("v2 with a namespace", &[inside, ("sys/fs/cgroup/memory.max", "134217728\n")], 128);
        let v1 = ("proc/self/cgroup", "12:cpu,cpuacct:/d/1\n5:memory:/d/1\n1:name=systemd:/d/1\n");
        let group = "sys/fs/cgroup/memory/d/1/memory.limit_in_bytes";
        let top = "sys/fs/cgroup/memory/memory.limit_in_bytes";
        let none = (top, "9223372036854771712\n");
        check("v1", &[v1, (group, "209715200\n"), none], 200);
        check("v1, only the top is mounted", &[v1, (top, "104857600\n")], 100);
        check("v1, no limit", &[v1, none], 8192);
    }
}
