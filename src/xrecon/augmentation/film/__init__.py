"""Steps between the patient and the network: the beam, the detector, the workstation and what people do to a film."""
