//! Building a domain: image, first address space, shared info page, first vCPU.
//!
//! The builder writes the page tables while their frames are plain memory, and then pins the root by
//! the same operation that guests use. So the validator checks the first page tables, too.

mod error;
mod guest_memory;
mod populate;
mod shared_info;

use crate::backend::store;
use crate::boot::archive::Archive;
use crate::console::log::write_record;
use crate::domain::domain_state::{DomainParts, Rights};
use crate::domain::per_domain::PerDomainMappings;
use crate::domain::shared_page::SharedPage;
use crate::domain::vcpu::Vcpu;
use crate::domain::{self, Domain, DomainRef, VcpuSlot, descriptors};
use crate::event::port_table;
use crate::memory::container::ControlBlocks;
use crate::memory::{frames, heap, platform};
use crate::run::teardown;
use crate::time::clock;
use alloc::sync::Arc;
use error::BuildError;
use pinfold_abi::record::{Hex, Micros, Start, Text};
use pinfold_image::{Container, DomainConfig, GuestImage, GuestLayout, LayoutRequest};
use pinfold_validator::{CachePolicy, DomId};

/// Frames that a domain needs in addition to its memory: shared info page, page tables of its per-domain
/// mappings, control blocks of vCPUs in a hardware container, and its parts of the heap.
fn overhead(vcpus: usize, container: Container) -> u64 {
    let control_blocks = match container {
        Container::None => 0,
        Container::Svm => vcpus as u64,
    };
    let heap: u64 = heap_orders(vcpus).iter().map(|order| 1u64 << order).sum();
    1 + PerDomainMappings::frames_for(vcpus) as u64 + control_blocks + heap
}

/// Orders of the areas by which the heap grows for a domain: one for its xenstore, one for the domain
/// itself with its ports and vCPUs.
fn heap_orders(vcpus: usize) -> [u32; 2] {
    let vcpus = vcpus * (size_of::<Vcpu>() + size_of::<VcpuSlot>());
    let domain = size_of::<Domain>() + port_table::HEAP_BYTES + vcpus + vcpus / 8;
    [heap::order_for(store::HEAP_BYTES), heap::order_for(domain)]
}

/// Builds a domain with its first vCPU, which is offline.
///
/// # Errors
/// If the image is invalid or memory is short. All that was allocated is freed again, except areas of
/// the heap.
pub fn build(id: DomId, config: &DomainConfig, archive: &Archive) -> Result<DomainRef, BuildError> {
    let begin = clock::now_ns();
    let file = |name: &str| archive.file(name).ok_or_else(|| BuildError::NoFile(name.into()));
    let image = GuestImage::parse(file(&config.kernel)?)?;
    image.check_container(config.container)?;
    let initrd = config.initrd.as_deref().map(file).transpose()?;
    let pages = config.pages();
    let request = LayoutRequest {
        pages,
        initrd: initrd.map(|i| i.len() as u64),
        xenstore: true,
        console: true,
    };
    let layout = GuestLayout::new(&image, &request)?;
    let vcpus = config.vcpus as u16;
    let domain = create(id, config, pages, vcpus)?;
    match populate::populate(&domain, config, &image, initrd, &layout) {
        Ok(vcpu) => {
            let record = Start {
                name: Text::Str(&domain.name),
                pages,
                vcpus,
                entry: Hex(layout.entry),
                overhead_frames: overhead(vcpus.into(), config.container),
                vcpu_bytes: (size_of::<Vcpu>() + size_of::<VcpuSlot>()) as u64,
                built_in: Micros((clock::now_ns() - begin) / 1000),
            };
            write_record(domain.who(), &record);
            domain.slots[0].initialise(vcpu);
            Ok(domain)
        }
        Err(error) => {
            teardown::release_unstarted(&domain);
            Err(error)
        }
    }
}

/// Makes a domain without memory, and adds it to the list of domains.
fn create(
    id: DomId,
    config: &DomainConfig,
    pages: u64,
    vcpus: u16,
) -> Result<DomainRef, BuildError> {
    let zeros = descriptors::zeros();
    let free = frames::free_count();
    let wanted = pages.saturating_add(overhead(vcpus.into(), config.container));
    if wanted > free {
        return Err(BuildError::Memory(wanted, free));
    }
    let no_memory = BuildError::Memory(wanted, free);
    if !heap_orders(vcpus.into()).into_iter().all(heap::grow) {
        return Err(no_memory);
    }
    let control_blocks = match config.container {
        Container::None => ControlBlocks::default(),
        Container::Svm => {
            platform::set_contained(id);
            ControlBlocks::alloc(vcpus).map_err(BuildError::Container)?
        }
    };
    let Some(shared_page) = SharedPage::alloc(id) else {
        control_blocks.release();
        return Err(no_memory);
    };
    let Some(per_domain) = PerDomainMappings::build(vcpus, zeros) else {
        let reclaimed = frames::allocator().reclaim(shared_page.frame(), id);
        debug_assert!(reclaimed.is_ok(), "nothing else refers to it");
        control_blocks.release();
        return Err(no_memory);
    };
    platform::set_window(id, Some(per_domain.l3()));
    let cache_policy = match config.cache {
        pinfold_image::CachePolicy::Strict => CachePolicy::Strict,
        pinfold_image::CachePolicy::Report => CachePolicy::Report,
    };
    platform::set_cache_policy(id, cache_policy);
    let domain = Arc::new(Domain::new(DomainParts {
        id,
        name: config.name.clone(),
        shared_page,
        per_domain,
        vcpus,
        pages,
        rights: Rights { diagnose: config.diagnose, dump_frames: config.dump_frames },
        control_blocks,
    }));
    domain::list(&domain);
    Ok(domain)
}
