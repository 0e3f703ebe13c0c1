//! What a CPU reports about itself.

/// The words of CPUID and IA32_ARCH_CAPABILITIES that matter here, as read. Zero for a leaf that
/// the CPU doesn't have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuidWords {
    /// Leaf 0: ebx, edx, ecx; the vendor as ASCII.
    pub vendor: [u32; 3],
    /// Leaf 1, eax: family, model and stepping.
    pub signature: u32,
    /// Leaf 1, ecx.
    pub leaf_1_ecx: u32,
    /// Leaf 7, ebx.
    pub leaf_7_ebx: u32,
    /// Leaf 7, edx.
    pub leaf_7_edx: u32,
    /// Leaf 0x80000008, ebx.
    pub leaf_8000_0008_ebx: u32,
    /// Leaf 0x80000021, eax.
    pub leaf_8000_0021_eax: u32,
    /// Leaf 0x80000021, ecx.
    pub leaf_8000_0021_ecx: u32,
    /// IA32_ARCH_CAPABILITIES (MSR 10AH), if [`CpuidWords::has_arch_capabilities`].
    pub arch_capabilities: u64,
}

impl CpuidWords {
    /// Whether the CPU has IA32_ARCH_CAPABILITIES (leaf 7, edx bit 29).
    pub const fn has_arch_capabilities(&self) -> bool {
        self.leaf_7_edx & 1 << 29 != 0
    }
}

/// The CPU's vendor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    /// Intel.
    Intel,
    /// AMD.
    Amd,
    /// Hygon, whose CPUs are licensed Zen 1 cores.
    Hygon,
    /// Any other.
    Other,
}

/// The decoded CPUID words of a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuFeatures {
    /// Vendor.
    pub vendor: Vendor,
    /// Family, the extended family added.
    pub family: u32,
    /// Model, with the extended model in bits 4 to 7.
    pub model: u32,
    /// Stepping.
    pub stepping: u32,
    words: CpuidWords,
}

macro_rules! bits {
    ($($(#[$doc:meta])* $name:ident: $word:ident[$bit:literal];)*) => {
        impl CpuFeatures {
            $($(#[$doc])* pub const fn $name(&self) -> bool { self.words.$word >> $bit & 1 != 0 })*
        }
    };
}

bits! {
    /// The CPU is a virtual one; the words are what its hypervisor shows.
    is_virtual: leaf_1_ecx[31];
    /// Transactional memory (RTM).
    has_rtm: leaf_7_ebx[11];
    /// `verw` clears the CPU's buffers.
    has_md_clear: leaf_7_edx[10];
    /// Intel: IBRS and IBPB.
    has_spec_ctrl: leaf_7_edx[26];
    /// IA32_FLUSH_CMD flushes the L1 data cache.
    has_l1d_flush: leaf_7_edx[28];

    /// Not affected by Meltdown and L1TF.
    rdcl_no: arch_capabilities[0];
    /// Enhanced IBRS: set once, it protects from then on.
    ibrs_all: arch_capabilities[1];
    /// A hypervisor need not flush the L1 data cache.
    skip_l1dfl_vmentry: arch_capabilities[3];
    /// Not affected by speculative store bypass.
    ssb_no: arch_capabilities[4];
    /// Not affected by MDS.
    mds_no: arch_capabilities[5];
    /// Not affected by TAA.
    taa_no: arch_capabilities[8];
    /// Not affected by MMIO stale data, first of three bits.
    sbdr_ssdp_no: arch_capabilities[13];
    /// Not affected by MMIO stale data, second of three bits.
    fbsdp_no: arch_capabilities[14];
    /// Not affected by MMIO stale data, third of three bits.
    psdp_no: arch_capabilities[15];
    /// `verw` clears the fill buffers.
    fb_clear: arch_capabilities[17];
    /// Not affected by RFDS.
    rfds_no: arch_capabilities[27];
    /// `verw` clears the register files that RFDS reads.
    rfds_clear: arch_capabilities[28];

    /// AMD: `fxrstor` always loads the FPU's error pointers.
    always_restores_fpu_pointers: leaf_8000_0008_ebx[2];
    /// AMD: IBPB.
    amd_ibpb: leaf_8000_0008_ebx[12];
    /// AMD: IBRS.
    amd_ibrs: leaf_8000_0008_ebx[14];
    /// AMD: IBRS may stay set all the time.
    amd_ibrs_always_on: leaf_8000_0008_ebx[16];
    /// AMD: not affected by speculative store bypass.
    amd_ssb_no: leaf_8000_0008_ebx[26];
    /// AMD: not affected by branch type confusion (Retbleed).
    btc_no: leaf_8000_0008_ebx[29];

    /// AMD: `verw` clears the buffers that TSA reads.
    verw_clear: leaf_8000_0021_eax[5];
    /// AMD: automatic IBRS, by EFER.
    auto_ibrs: leaf_8000_0021_eax[8];
    /// AMD: IBPB also drops predicted branch types.
    ibpb_brtype: leaf_8000_0021_eax[28];
    /// AMD: not affected by SRSO.
    srso_no: leaf_8000_0021_eax[29];
    /// AMD: not affected by SRSO from ring 3 to ring 0.
    srso_user_kernel_no: leaf_8000_0021_eax[30];
    /// AMD: not affected by TSA through the store queue.
    tsa_sq_no: leaf_8000_0021_ecx[1];
    /// AMD: not affected by TSA through the L1 data cache.
    tsa_l1_no: leaf_8000_0021_ecx[2];
}

impl CpuFeatures {
    /// Decodes the words. `arch_capabilities` counts only if CPUID announces the MSR.
    pub const fn new(words: CpuidWords) -> CpuFeatures {
        let mut words = words;
        if !words.has_arch_capabilities() {
            words.arch_capabilities = 0;
        }
        let signature = words.signature;
        let base_family = signature >> 8 & 0xf;
        let extended_family = signature >> 20 & 0xff;
        let family = if base_family == 0xf { 0xf + extended_family } else { base_family };
        let base_model = signature >> 4 & 0xf;
        // Intel SDM vol. 2, CPUID: the extended model counts for families 6 and 15; AMD and Hygon:
        // from family 15 on.
        let model = if base_family == 0xf || base_family == 6 {
            (signature >> 16 & 0xf) << 4 | base_model
        } else {
            base_model
        };
        CpuFeatures {
            vendor: vendor(words.vendor),
            family,
            model,
            stepping: signature & 0xf,
            words,
        }
    }

    /// Whether AMD's feature bits and bulletins apply: AMD and Hygon.
    pub(crate) const fn is_amd(&self) -> bool {
        matches!(self.vendor, Vendor::Amd | Vendor::Hygon)
    }

    /// Whether the CPU has IBPB (IA32_PRED_CMD, MSR 49H).
    pub const fn has_ibpb(&self) -> bool {
        self.has_spec_ctrl() || self.amd_ibpb()
    }
}

const fn word(text: &[u8; 12], at: usize) -> u32 {
    u32::from_le_bytes([text[at], text[at + 1], text[at + 2], text[at + 3]])
}

const fn is(vendor: [u32; 3], text: &[u8; 12]) -> bool {
    vendor[0] == word(text, 0) && vendor[1] == word(text, 4) && vendor[2] == word(text, 8)
}

const fn vendor(words: [u32; 3]) -> Vendor {
    if is(words, b"GenuineIntel") {
        Vendor::Intel
    } else if is(words, b"AuthenticAMD") {
        Vendor::Amd
    } else if is(words, b"HygonGenuine") {
        Vendor::Hygon
    } else {
        Vendor::Other
    }
}
