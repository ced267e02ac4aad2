# control 72
import torch
from torch import nn


class GPT(nn.Module):
    def __init__(self, v=64, w=96):
        super().__init__()
        self.tok, self.pos = nn.Embedding(v, w), nn.Parameter(torch.zeros(48, w))
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(w, 4, 4 * w, 0.1, "gelu", batch_first=True, norm_first=True) for _ in range(3))
        self.norm, self.head = nn.LayerNorm(w), nn.Linear(w, v)

    def forward(self, ids):
        mask = nn.Transformer.generate_square_subsequent_mask(ids.shape[1])
        x = self.tok(ids) + self.pos
        for layer in self.layers:
            x = layer(x, mask, is_causal=True)
        return self.head(self.norm(x))


torch.manual_seed(0)
data = (torch.arange(9000) ** 2 // 7) % 64
net = GPT()
opt = torch.optim.AdamW(net.parameters(), 1e-3)
for step in range(80):
    at = torch.randint(0, 8900, (16, 1)) + torch.arange(49)
    ids = data[at]
    loss = nn.functional.cross_entropy(net(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
    opt.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    opt.step()
    if step % 20 == 0:
        print(step, loss.item())
