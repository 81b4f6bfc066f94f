"""``ncfm``: files of NCFM, ``[images, labels]`` like those of IDC; stored images in [0, 1], ``factor`` x ``factor`` tiles each."""

from pipeline.formats.peers import idc
from pipeline.formats.peers.peer_format import PeerFormat

FORMAT = PeerFormat(read=idc.read, write=idc.write)
