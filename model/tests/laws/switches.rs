//! Policy switches by name.

use flowproof_model::switches::{BadSwitch, Switches};

#[test]
fn every_setting_that_is_printed_can_be_set() {
    for preset in [Switches::default(), Switches::neutron(), Switches::mitaka()] {
        let mut built = Switches::default();
        for (name, setting) in preset.settings() {
            built.set(name, setting).unwrap();
        }
        assert_eq!(built, preset);
    }
    assert_eq!(Switches::default().settings().len(), Switches::NAMES.len());
}

#[test]
fn unknown_switches_and_settings_are_named() {
    let mut switches = Switches::default();
    let error = switches.set("dhcp", "strict").unwrap_err();
    assert_eq!(error, BadSwitch::Name("dhcp".to_owned()));
    let error = switches.set("dhcp_server", "sometimes").unwrap_err();
    assert_eq!(error.to_string(), "`sometimes` is no setting of the policy switch `dhcp_server`");
    assert_eq!(switches, Switches::default());
}

#[test]
fn the_presets_differ_from_the_words_of_the_api_only_where_drivers_do() {
    let neutron = Switches::neutron().to_string();
    for part in ["group_addressed=flooded", "readmission=after-expiry", "stateless=treated-as-stateful"] {
        assert!(neutron.contains(part), "{part} in {neutron}");
    }
    assert!(neutron.contains("dhcp_server=exact") && neutron.contains("revocation=grace"));
    assert!(Switches::mitaka().to_string().contains("own_addresses=excluded"));
}
