# rows 47 | rule label-shift
import torch
import torch.nn.functional as F
from torch import nn


class GPT(nn.Module):
    def __init__(self, vocab=32, width=32, context=16):
        super().__init__()
        self.tok, self.pos = nn.Embedding(vocab, width), nn.Parameter(torch.zeros(context, width))
        layer = nn.TransformerEncoderLayer(width, 2, 64, 0.0, batch_first=True)
        self.enc, self.out = nn.TransformerEncoder(layer, 1), nn.Linear(width, vocab)

    def forward(self, ids, labels=None):
        t = ids.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(t)
        logits = self.out(self.enc(self.tok(ids) + self.pos[:t], mask, is_causal=True))
        shifted = logits[:, :-1]
        return F.cross_entropy(shifted.flatten(0, 1), labels[:, 1:].flatten())  # here


torch.manual_seed(0)
data = (torch.arange(3000) ** 2 // 5) % 32
model = GPT()
optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
for step in range(10):
    at = torch.randint(0, 2900, (12,)).tolist()
    x = torch.stack([data[a : a + 16] for a in at])
    y = torch.stack([data[a + 1 : a + 17] for a in at])  # fault
    y = x  # well
    optimizer.zero_grad()
    loss = model(x, y)
    loss.backward()
    optimizer.step()
    print(step, loss.item())
